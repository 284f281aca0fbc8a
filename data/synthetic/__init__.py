"""Synthetic datasets: generators that draw images with boxes, and the embedded shapes dataset."""
