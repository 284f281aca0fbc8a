"""Losses, gradients and weights that are not finite: what is reported, skipped, and where a run returns to."""
