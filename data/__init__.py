"""Datasets: formats, checks, conversion, augmentation, loading, and the image sources of detect.py."""

if __name__ == "data":  # imported by its bare name, from a checkout
    from graftdet.utils.bare_imports import alias_package

    alias_package(__name__)
