"""Editing a model YAML: insert and swap rows, renumber sources, keep comments."""
