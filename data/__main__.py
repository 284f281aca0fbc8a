"""Check, convert, split and draw datasets."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from graftdet.data.dataset_config import load_data_config
from graftdet.data.formats.format import SPLIT_NAMES
from graftdet.data.synthetic.drawn_dataset import COUNT, SEED, draw_shapes, ensure_shapes
from graftdet.data.synthetic.shapes import draw_video
from graftdet.utils import cli
from graftdet.utils.errors import UserError
from graftdet.utils.text import printable, valid_utf8
from graftdet.utils.untrusted.limits import AllowLarge

_DATA_HELP = "dataset YAML, or the name of a file in configs/data"
_FORMAT_HELP = "coco, yolo or voc"


def main(argv: Sequence[str] | None = None, prog: str = "python -m data") -> None:
    """Run one command.

    Args:
        argv: command line; None for that of the process.
        prog: name of the program in help texts and messages.

    Raises:
        UserError: for a mistake in the arguments or the dataset.
    """
    args = make_parser(prog).parse_args(argv)
    args.run_command(args)


def make_parser(prog: str = "python -m data") -> cli.ArgumentParser:
    """Return the parser of the program `prog`; the function of the chosen command is in `args.run_command`."""
    parser = cli.ArgumentParser(prog=prog, description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="check|convert|split|draw|shapes")
    _add_check(commands)
    _add_convert(commands)
    _add_split(commands)
    _add_draw(commands)
    _add_shapes(commands)
    for command in commands.choices.values():
        command.add_argument("--allow-large", action=AllowLarge, help="read annotations above the limits of size")
    return parser


def _add_check(commands: argparse._SubParsersAction) -> None:
    text = "report the contents of a dataset and all its problems; exit status 0: none, 1: warnings, 2: errors"
    check = commands.add_parser("check", help=text, description=text)
    check.add_argument("data", help=_DATA_HELP)
    check.add_argument("--format", choices=("text", "json"), default="text", help="form of the report")
    check.add_argument("--json", dest="format", action="store_const", const="json", help="same as --format json")
    check.set_defaults(run_command=check_command)


def _add_convert(commands: argparse._SubParsersAction) -> None:
    text = "write a dataset in another format"
    convert = commands.add_parser("convert", help=text, description=text)
    convert.add_argument("data", help=_DATA_HELP)
    convert.add_argument("--to", required=True, metavar="FORMAT", help=_FORMAT_HELP)
    _add_output(convert)
    convert.set_defaults(run_command=convert_command)


def _add_split(commands: argparse._SubParsersAction) -> None:
    text = "divide all images of a dataset into new train, val and test splits"
    split = commands.add_parser("split", help=text, description=text)
    split.add_argument("data", help=_DATA_HELP)
    split.add_argument(
        "--ratios", nargs="+", type=float, default=[0.8, 0.1, 0.1], help="fractions of train, val and test"
    )
    split.add_argument("--seed", type=int, default=0, help="random seed; another seed gives other splits")
    split.add_argument("--to", metavar="FORMAT", help=f"{_FORMAT_HELP} (default: format of the source)")
    _add_output(split)
    split.set_defaults(run_command=split_command)


def _add_draw(commands: argparse._SubParsersAction) -> None:
    text = "draw a sheet of images with their boxes and class names"
    draw = commands.add_parser("draw", help=text, description=text)
    draw.add_argument("data", help=_DATA_HELP)
    draw.add_argument("--output", required=True, metavar="FILE.jpg", help="image to write")
    draw.add_argument("--split", default="train", choices=SPLIT_NAMES, help="split to draw")
    draw.add_argument("--count", type=int, default=16, help="number of images")
    draw.add_argument("--seed", type=int, default=0, help="random seed; another seed selects other images")
    draw.set_defaults(run_command=draw_command)


def _add_shapes(commands: argparse._SubParsersAction) -> None:
    text = "draw the embedded shapes dataset"
    shapes = commands.add_parser("shapes", help=text, description=text)
    shapes.add_argument("--out", metavar="FOLDER", help="folder to write (default: where shapes.yaml finds it)")
    shapes.add_argument("--seed", type=int, default=SEED, help="random seed; another seed requires --out")
    count_help = "training images; a quarter of it each for val and test; another count requires --out"
    shapes.add_argument("--count", type=int, default=COUNT, help=count_help)
    shapes.add_argument("--video", metavar="FILE.mp4", help="also write a short video of moving shapes")
    shapes.set_defaults(run_command=shapes_command)


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, metavar="FOLDER", help="new folder, outside that of the source")
    image_help = "how images get into the folder: copy, link (hard links) or symlink"
    parser.add_argument("--images", default="copy", metavar="MODE", help=image_help)
    parser.add_argument("--pictures", dest="images", default=argparse.SUPPRESS, help=argparse.SUPPRESS)  # old name
    parser.add_argument("--link", dest="images", action="store_const", const="link", help="same as --images link")


def check_command(args: argparse.Namespace) -> None:
    """`check`: print the report of a dataset; exit with 1 for warnings, 2 for errors."""
    from graftdet.data.tools.audit import audit
    from graftdet.data.tools.report import format_report, report_status

    report = audit(load_data_config(args.data))
    as_json = args.format == "json"
    print(valid_utf8(json.dumps(report, indent=1, ensure_ascii=False)) if as_json else printable(format_report(report)))
    if status := report_status(report):
        sys.exit(status)


def convert_command(args: argparse.Namespace) -> None:
    """`convert`: write a dataset in another format."""
    from graftdet.data.tools.convert import convert

    written = convert(load_data_config(args.data), args.to, args.out, args.images)
    _print_written(written.messages, written.yaml)


def split_command(args: argparse.Namespace) -> None:
    """`split`: write a dataset with new splits."""
    from graftdet.data.tools.split import split_dataset

    written = split_dataset(load_data_config(args.data), args.ratios, args.out, args.seed, args.to, args.images)
    _print_written(written.messages, written.yaml)


def draw_command(args: argparse.Namespace) -> None:
    """`draw`: write a sheet of images."""
    from graftdet.data.tools.sheet import draw_sheet

    print(draw_sheet(load_data_config(args.data), args.output, args.split, args.count, args.seed))


def shapes_command(args: argparse.Namespace) -> None:
    """`shapes`: draw the embedded dataset, perhaps a video."""
    if args.out is None and (args.seed, args.count) != (SEED, COUNT):
        raise UserError(
            f"--out: missing; shapes.yaml stands for --seed {SEED} --count {COUNT}, others require their own folder"
        )
    print(ensure_shapes() if args.out is None else draw_shapes(Path(args.out), args.seed, args.count))
    if args.video:
        print(draw_video(args.video, seed=args.seed))


def _print_written(messages: list[str], yaml_path: Path) -> None:
    for message in messages:
        print(printable(message))
    print(f"to train on it: --data {yaml_path}")


if __name__ == "__main__":
    cli.run(main)
