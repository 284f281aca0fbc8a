"""The console command `graftdet COMMAND ...` (also `python -m graftdet`): every script and tool under one name."""

import sys
from collections.abc import Sequence
from importlib import import_module

SCRIPTS = {  # command -> help; the command is the name of the module below graftdet
    "train": "train a detector",
    "val": "validate a detector on a dataset: AP, curves, confusion matrix",
    "detect": "detect objects in images, videos, streams and cameras",
    "export": "export trained weights (ONNX, OpenVINO, ncnn, LiteRT, ...) and compare the file with them",
}
RECEIPT_HELP = "compare an exported file with its weights again"
RECEIPT_USAGE = """usage: graftdet receipt FILE [OPTION ...]

Compare an exported file with its weights again, and write FILE.receipt.json.

  --weights WEIGHTS  weights that it was exported from (default: best.pt of the newest run)
  --data DATA.yaml   compare AP, too, and images of the validation split instead of drawn ones

FILE and the options are those of graftdet export --receipt; graftdet export --help describes all."""
DATA_HELP = "check, convert or split a dataset, or draw the built-in one"


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command; what a script reports as a user's error ends with exit status 2.

    Args:
        argv: The command and its arguments; those of the process by default.
    """
    from graftdet.utils import cli

    arguments = list(sys.argv[1:] if argv is None else argv)
    cli.run(lambda: _dispatch(arguments))


def commands() -> dict[str, str]:
    """Every command with its one-line help, in the order in which `graftdet --help` lists them."""
    from graftdet.models.__main__ import COMMANDS

    return {
        **SCRIPTS,
        **{name: text for name, (_, text) in COMMANDS.items()},
        "receipt": RECEIPT_HELP,
        "data": DATA_HELP,
    }


def _dispatch(arguments: list[str]) -> None:
    """Call the `main` that the first argument names with the others."""
    name, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if name in SCRIPTS:
        from graftdet.utils import startup

        sys.argv = [f"graftdet {name}", *rest]  # as `python -m` does; usage lines show argv[0]
        startup.run_script(f"graftdet.{name}", rest)
    elif name == "receipt" and (not rest or rest[0].startswith("-")):
        asked = rest[:1] in (["-h"], ["--help"])
        print(RECEIPT_USAGE, file=sys.stdout if asked else sys.stderr)
        sys.exit(0 if asked else 2)
    elif name == "receipt":  # `graftdet receipt FILE ...` is `graftdet export --receipt FILE ...`
        _dispatch(["export", "--receipt", *rest])
    elif name == "data":
        import_module("graftdet.data.__main__").main(rest, prog="graftdet data")
    elif name in commands():
        import_module("graftdet.models.__main__").main(arguments, prog="graftdet")
    else:
        _without_command(name)


def _without_command(name: str) -> None:
    """Answer --help and --version; anything else ends with status 2 and the nearest command."""
    from graftdet import __version__
    from graftdet.utils.errors import did_you_mean

    if name == "--version":
        print(f"graftdet {__version__}")
    elif name in ("-h", "--help"):
        print(_help())
    elif not name:
        print(_help(), file=sys.stderr)
        sys.exit(2)
    else:
        hint = did_you_mean(name, commands())
        print(f"graftdet: error: unknown command '{name}'{hint}; see graftdet --help", file=sys.stderr)
        sys.exit(2)


def _help() -> str:
    """The text of `graftdet --help`."""
    width = max(map(len, commands()))
    listed = "\n".join(f"  {name:{width}}  {text}" for name, text in commands().items())
    return f"""usage: graftdet [-h] [--version] COMMAND ...

Light object detectors whose graph is edited row by row in a YAML file.

commands:
{listed}

options:
  -h, --help  show this help message and exit
  --version   print the version and exit

graftdet COMMAND --help describes the options of a command."""


if __name__ == "__main__":
    main()
