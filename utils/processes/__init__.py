"""Processes and their signals."""
