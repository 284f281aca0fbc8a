"""Data sets: formats, audit, conversion, augmentation, loading and the sources that pictures come from."""
