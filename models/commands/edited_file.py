"""Arguments that all commands share that edit a model YAML."""

import argparse


def add_file_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of all commands that edit a model YAML."""
    parser.add_argument("cfg", metavar="FILE.yaml", help="model YAML: a path, or a name in configs/models")
    target = parser.add_mutually_exclusive_group()
    target.add_argument("-o", "--output", metavar="FILE", help="file to write (default: standard output)")
    target.add_argument("--in-place", action="store_true", help="change FILE.yaml itself")
