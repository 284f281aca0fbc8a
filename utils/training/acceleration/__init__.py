"""Faster training steps: preparation of the model, precision and memory format by timing, batch size by memory."""
