"""Drawing boxes, plots and charts."""
