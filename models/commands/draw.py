"""`python -m models draw FILE.yaml -o FILE.svg`: draw the graph of a model YAML as SVG."""

import argparse
from pathlib import Path

from graftdet.utils.cli.options import add_model_yaml_flags, image_size
from graftdet.utils.errors import UserError
from graftdet.utils.files import write_atomically
from graftdet.utils.text import counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_model_yaml_flags(parser)
    parser.add_argument("-o", "--output", metavar="FILE.svg", required=True, help="file to write")


def run(args: argparse.Namespace) -> None:
    """Write the drawing."""
    from graftdet.models.analysis.graph_svg import draw_model
    from graftdet.models.graph.detection_model import build_model

    path = Path(args.output)
    if path.suffix.lower() != ".svg":
        raise UserError(f"-o {path}: expected a file name that ends in .svg")
    model = build_model(args.cfg, args.nc)
    write_atomically(path, draw_model(model, image_size(args.img, model.size_multiple)))
    print(f"{path}: {counted(len(model.spec.rows), 'row')}")
