"""Assigners: which predictions are trained on which ground-truth box. Import the submodule you need."""
