"""`python -m models COMMAND`: what can be done with a model YAML without training."""

from importlib import import_module

from graftdet.utils.cli import ArgumentParser, run

COMMANDS = {  # command -> (module with add_arguments(parser) and run(args), help)
    "summary": ("analysis.summary", "print a row a layer and totals"),
    "check": ("lint.check", "find every mistake in a model YAML, each with its row"),
    "conform": ("conformance.conform", "try on a block what would break later"),
    "insert": ("editing.insert", "graft a row into a model YAML; indices, comments and layout follow"),
    "compare": ("analysis.compare", "put models side by side: size, speed, memory, and AP after training"),
    "draw": ("analysis.graph_svg", "draw the graph of a model YAML as SVG"),
    "swap": ("editing.swap", "put one block in the place of another in a model YAML"),
}


def main(argv=None, prog="python -m models"):
    parser = ArgumentParser(prog=prog, description=__doc__)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=ArgumentParser)
    for command, (module, text) in COMMANDS.items():
        sub = subparsers.add_parser(command, help=text, description=text)
        sub.add_argument("--plugins", nargs="+", default=[], metavar="FILE.py", help="files with blocks of your own")
        command_module = import_module(f"graftdet.models.{module}")
        command_module.add_arguments(sub)
        sub.set_defaults(run=command_module.run)
    args = parser.parse_args(argv)
    from graftdet.models.graph.plugins import load_plugins

    load_plugins(args.plugins)
    args.run(args)


if __name__ == "__main__":
    run(main)
