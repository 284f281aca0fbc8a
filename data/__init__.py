"""Data sets: formats, audit, conversion, augmentation, loading and the sources that pictures come from."""

if __name__ == "data":  # imported by its bare name, from a checkout
    from graftdet.utils.bare_imports import alias_package

    alias_package(__name__)
