"""Augmentation of images and their boxes: mosaic, affine and color transforms."""
