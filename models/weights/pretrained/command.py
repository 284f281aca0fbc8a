"""`python -m models weights`: pretrained weights and loadable files as tables; `weights pack` writes such a file."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from graftdet.models.weights.pretrained.families import FAMILIES
from graftdet.models.weights.pretrained.files import PretrainedFile, list_pretrained
from graftdet.utils.cli import ArgumentParser
from graftdet.utils.tables import text_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command, and those of `weights pack`."""
    parser.add_argument("--format", choices=("text", "json"), default="text", help="output format")
    about = "write a finished run as float16 .safetensors with its card"
    actions = parser.add_subparsers(dest="action", metavar="ACTION", parser_class=ArgumentParser, help="pack: " + about)
    pack = actions.add_parser("pack", help=about, description=about[0].upper() + about[1:] + ".")
    pack.add_argument("source", metavar="RUN", help="folder of a finished run, a .pt file, or a packed file to change")
    pack.add_argument("out", metavar="OUT.safetensors", type=Path, help="file to write; its card is beside it as .md")
    pack.add_argument(
        "--card",
        nargs="+",
        action="extend",
        type=_key_value,
        default=[],
        metavar="FIELD=VALUE",
        help="license, trained_on, limits, model, and what the run does not record: images, hours, command, ...",
    )
    pack.add_argument(
        "--ap",
        nargs="+",
        action="extend",
        type=_comparison,
        default=[],
        metavar="DATASET=AP/AP",
        help="AP50-95 after fine-tuning from the weights and from scratch, 0 to 1: 'BCCD test, 30 epochs=0.62/0.59'",
    )


def run(args: argparse.Namespace) -> None:
    """List the weights, or pack a run."""
    if args.action == "pack":
        _pack(args)
        return
    shipped = list_pretrained()
    if args.format == "json":
        listed = [{"name": file.name, "bytes": file.path.stat().st_size, **file.card.as_dict()} for file in shipped]
        print(json.dumps({"pretrained": listed, "loadable": [asdict(family) for family in FAMILIES]}, indent=2))
        return
    print("pretrained weights: train.py starts from those that fit, --weights none trains from scratch")
    print(_pretrained_table(shipped) if shipped else "none in this installation")
    print("\nother files for --weights: nothing is downloaded; check their license")
    header = ("family", "files", "license", "published by", "use")
    print(text_table(header, [tuple(asdict(family).values()) for family in FAMILIES]))


def _pretrained_table(files: list[PretrainedFile]) -> str:
    header = ("name", "model", "parameters", "MB", "trained on", "images", "license")
    rows = [
        (
            file.name,
            file.card.model,
            f"{file.card.parameters:,}",
            f"{file.path.stat().st_size / 1e6:.1f}",
            file.card.trained_on,
            f"{file.card.images:,}",
            file.card.license,
        )
        for file in files
    ]
    scores = [
        (file.name, one.dataset, f"{one.pretrained:.3f}", f"{one.scratch:.3f}")
        for file in files
        for one in file.card.ap
    ]
    text = text_table(header, rows, right=(2, 3, 5))
    if scores:
        header = ("name", "AP50-95 after fine-tuning on", "pretrained", "from scratch")
        text += "\n\n" + text_table(header, scores, right=(2, 3))
    return text


def _pack(args: argparse.Namespace) -> None:
    from graftdet.models.weights.pretrained.card import ApComparison
    from graftdet.models.weights.pretrained.packing import pack

    card = pack(args.source, args.out, dict(args.card), [ApComparison(*one) for one in args.ap])
    megabytes = args.out.stat().st_size / 1e6
    print(f"{args.out}: {megabytes:.2f} MB, {card.parameters:,} parameters, {card.images:,} images, {card.license}")


def _key_value(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not key or not separator:
        raise argparse.ArgumentTypeError(f"expected FIELD=VALUE, got '{text}'")
    return key, value


def _comparison(text: str) -> tuple[str, float, float]:
    dataset, _, values = text.rpartition("=")
    try:
        pretrained, scratch = map(float, values.split("/"))
    except ValueError:
        pretrained = scratch = -1.0
    if not dataset or not (0 <= pretrained <= 1 and 0 <= scratch <= 1):
        raise argparse.ArgumentTypeError(f"expected DATASET=AP/AP with two numbers from 0 to 1, got '{text}'")
    return dataset, pretrained, scratch
