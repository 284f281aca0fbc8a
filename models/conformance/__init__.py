"""`python -m models conform`: checks that a block survives training, export and deployment."""
