"""Utilities that know neither models nor datasets. Import the submodule you need."""

if __name__ == "utils":  # imported by its bare name, from a checkout
    from graftdet.utils.bare_imports import alias_package

    alias_package(__name__)
