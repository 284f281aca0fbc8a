"""Augmentation of images and boxes: mosaic, affine and color transforms, mixup."""
