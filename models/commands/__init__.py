"""The commands of `python -m models`: flags, and `run`, which imports what it needs, so that --help is fast."""
