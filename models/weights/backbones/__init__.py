"""Weights of backbones, as their publishers name them, for one row of a model."""
