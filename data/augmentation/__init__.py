"""Augmentation of images and boxes: mosaic, affine and color transforms, mixed regions, lower image quality."""
