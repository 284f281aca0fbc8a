"""`export.py --benchmark`: every export format of a model side by side, in size, speed, memory and AP."""
