"""Pretrained weights that come with GraftDet: their cards, where they are found, where training starts."""
