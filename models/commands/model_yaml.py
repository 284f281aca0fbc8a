"""`python -m models yaml FILE`: print the model YAML in a weights file."""

import argparse
from pathlib import Path

from graftdet.utils.files import write_atomically


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("weights", metavar="FILE", help="weights file: .pt, .pth, .pdparams, .safetensors, .onnx")
    parser.add_argument("--output", type=Path, metavar="OUT.yaml", help="file to write (default: print)")


def run(args: argparse.Namespace) -> None:
    """Print or write the YAML."""
    from graftdet.models.weights.weights_file import load_weights

    text = load_weights(args.weights).yaml_text
    if args.output is None:
        print(text, end="")
    else:
        write_atomically(args.output, text)
        print(args.output)
