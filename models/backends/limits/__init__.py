"""Limits of what exported files may declare."""
