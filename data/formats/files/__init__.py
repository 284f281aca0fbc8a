"""Which files belong to a split: images, their labels, and names that other machines wrote."""
