"""Speed, table by table: `python -m benchmarks` prints all, `python -m benchmarks nms loader` some. Nothing here is a test."""
