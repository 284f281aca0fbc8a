"""Readers of files that may come from strangers: nothing is executed, and size, depth and time are limited."""
