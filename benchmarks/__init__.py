"""Benchmarks of speed: `python -m benchmarks` prints all tables, `python -m benchmarks nms loader` two of them."""
