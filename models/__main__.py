"""`python -m models COMMAND`: inspect, check and edit model YAMLs, without training."""

import sys
from collections.abc import Sequence
from importlib import import_module

from graftdet.utils.cli import ArgumentParser, run

COMMANDS = {  # command -> (module with add_arguments(parser) and run(args), help)
    "summary": ("commands.summary", "print one row per layer (shape, parameters, MACs) and totals"),
    "yaml": ("commands.model_yaml", "print the model YAML in a weights file, or write it to a file"),
    "check": ("commands.check", "report all problems in a model YAML, with line and row"),
    "compare": ("commands.compare", "compare models: parameters, MACs, memory, latency, and AP after training"),
    "report": ("commands.report", "compare finished runs, with confidence intervals of their AP difference"),
    "insert": ("commands.insert", "insert rows into a model YAML; indices, comments and layout are updated"),
    "swap": ("commands.swap", "replace a module by another one in a model YAML"),
    "blocks": ("commands.blocks", "list the modules that rows may name, or describe one of them"),
    "draw": ("commands.draw", "draw the graph of a model YAML as SVG"),
    "edit": ("commands.edit", "edit a model YAML in a local page, with its problems and its graph"),
    "weights": ("weights.pretrained.command", "list pretrained weights and loadable files; pack a run as such a file"),
    "import": ("commands.import_weights", "convert published weights to a file of GraftDet"),
    "serve": ("commands.serve", "detect over HTTP: POST /predict, a page, metrics"),
    "conform": ("commands.conform", "run conformance checks on a block (export, autocast, deepcopy, odd sizes)"),
}


def main(argv: Sequence[str] | None = None, prog: str = "python -m models") -> None:
    """Run one command.

    Args:
        argv: The command and its arguments (default: those of the process).
        prog: Name of the program in help and error messages.
    """
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments:
        print(make_parser(prog, loaded=()).format_help(), file=sys.stderr, end="")
        sys.exit(2)
    args = make_parser(prog, loaded=arguments[:1]).parse_args(arguments)
    if args.plugins:  # imports torch
        from graftdet.models.graph.plugins import load_plugins

        load_plugins(args.plugins)
    args.run(args)


def make_parser(prog: str = "python -m models", loaded: Sequence[str] = tuple(COMMANDS)) -> ArgumentParser:
    """Return the command line parser; the function of the chosen command is in `args.run`.

    Args:
        prog: Name of the program in help and error messages.
        loaded: Commands whose modules are imported and whose options are added.
    """
    parser = ArgumentParser(prog=prog, description="Inspect, check and edit model YAMLs, without training.")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=ArgumentParser)
    for command, (module, text) in COMMANDS.items():
        sub = subparsers.add_parser(command, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if command in loaded:
            from graftdet.utils.cli.options import add_trust_flags

            command_module = import_module(f"graftdet.models.{module}")
            command_module.add_arguments(sub)
            add_trust_flags(sub)
            sub.set_defaults(run=command_module.run)
    return parser


if __name__ == "__main__":
    run(main)
