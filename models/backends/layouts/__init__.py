"""How the outputs of exported files are read. NumPy only, no torch."""
