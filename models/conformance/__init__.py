"""Conformance checks of blocks: that a block survives training, export and deployment."""
