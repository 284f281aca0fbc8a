"""What is called while a run goes: callbacks from Python, and loggers of `--logger`."""
