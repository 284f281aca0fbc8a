"""COCO average precision, metrics and the evaluation loop."""
