"""Pretrained weights that come with GraftDet: their cards, where they are found, which of them a training starts from."""
