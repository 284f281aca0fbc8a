"""The work of the commands: check, convert and split datasets."""
