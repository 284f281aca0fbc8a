"""`python -m data check|convert|split|shapes`: audit, convert, divide and draw data sets."""

import json
from collections.abc import Sequence
from pathlib import Path

from graftdet.data.config import load_data_config
from graftdet.data.synthetic_shapes import COUNT, SEED, draw_shapes, draw_video, ensure_shapes
from graftdet.utils import cli
from graftdet.utils.errors import UserError
from graftdet.utils.text import valid_utf8


def make_parser(prog: str = "python -m data") -> cli.ArgumentParser:
    """The command line; each command's function is in `args.work`."""
    parser = cli.ArgumentParser(prog=prog, description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="check|convert|split|shapes")

    check = commands.add_parser("check", help="audit a data set: counts, and everything that is wrong with it")
    check.add_argument("data", help="data YAML, a path or a bare name of configs/data")
    check.add_argument("--json", action="store_true", help="print the report as JSON")
    check.set_defaults(work=check_command)

    convert = commands.add_parser("convert", help="write a data set in another format")
    convert.add_argument("data", help="data YAML, a path or a bare name of configs/data")
    convert.add_argument("--to", required=True, metavar="FORMAT", help="coco, yolo or voc")
    _add_output(convert)
    convert.set_defaults(work=convert_command)

    split = commands.add_parser("split", help="divide all pictures of a data set into train, val and test")
    split.add_argument("data", help="data YAML, a path or a bare name of configs/data")
    split.add_argument("--ratios", nargs="+", type=float, default=[0.8, 0.1, 0.1], help="shares of train, val and test")
    split.add_argument("--seed", type=int, default=0, help="another seed, another division")
    split.add_argument("--to", default=None, metavar="FORMAT", help="coco, yolo or voc (default: as the source)")
    _add_output(split)
    split.set_defaults(work=split_command)

    shapes = commands.add_parser("shapes", help="draw the embedded data set")
    shapes.add_argument("--out", default=None, help="folder (default: where shapes.yaml looks for it)")
    shapes.add_argument("--seed", type=int, default=SEED, help="another seed, other pictures, which need --out")
    count = "pictures for training, a quarter each for val and test; another count needs --out"
    shapes.add_argument("--count", type=int, default=COUNT, help=count)
    shapes.add_argument("--video", default=None, metavar="FILE.mp4", help="write a short video of moving shapes, too")
    shapes.set_defaults(work=shapes_command)
    return parser


def _add_output(parser) -> None:
    parser.add_argument("--out", required=True, help="new folder, outside the source's")
    parser.add_argument("--pictures", default="copy", help="copy, link (hard links) or symlink")
    parser.add_argument(
        "--link", dest="pictures", action="store_const", const="link", default="copy", help="as --pictures link"
    )


def check_command(args) -> None:
    from graftdet.data.tools.audit import audit, table

    report = audit(load_data_config(args.data))
    print(valid_utf8(json.dumps(report, indent=1, ensure_ascii=False) if args.json else table(report)))


def convert_command(args) -> None:
    from graftdet.data.tools.convert import convert

    _tell(convert(load_data_config(args.data), args.to, args.out, args.pictures))


def split_command(args) -> None:
    from graftdet.data.tools.split import divide

    _tell(divide(load_data_config(args.data), args.ratios, args.out, args.seed, args.to, args.pictures))


def shapes_command(args) -> None:
    if args.out is None and (args.seed, args.count) != (SEED, COUNT):
        raise UserError(
            f"--out: missing; shapes.yaml means --seed {SEED} --count {COUNT}, others need a folder of their own"
        )
    print(ensure_shapes() if args.out is None else draw_shapes(Path(args.out), args.seed, args.count))
    if args.video:
        print(draw_video(args.video, seed=args.seed))


def _tell(written) -> None:
    for line in written.lines:
        print(valid_utf8(line))
    print(f"use it: --data {written.yaml}")


def main(argv: Sequence[str] | None = None, prog: str = "python -m data") -> None:
    args = make_parser(prog).parse_args(argv)
    args.work(args)


if __name__ == "__main__":
    cli.run(main)
