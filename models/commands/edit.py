"""`python -m models edit FILE.yaml`: edit a model YAML in a page of the browser, with its problems and its graph."""

import argparse
import threading
import webbrowser


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    about = "model YAML; a name in configs/models starts a new file of that name in the current folder"
    parser.add_argument("cfg", metavar="FILE.yaml", help=about)
    parser.add_argument("--port", type=int, default=0, help="port of 127.0.0.1 (default: a free one)")
    parser.add_argument(
        "--open",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="open the page in the browser",
    )


def run(args: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C."""
    from graftdet.models.editor.api import EditorApi
    from graftdet.models.editor.edited_file import EditedFile
    from graftdet.models.editor.server import EditorServer

    file = EditedFile(args.cfg)
    server = EditorServer(EditorApi(file, args.plugins), args.port)
    new = f" (new, from {file.origin})" if file.origin else ""
    with server:
        print("Ctrl-C ends the program.")
        print(f"{file.path}{new}: edit it at {server.url}", flush=True)
        threading.Thread(target=server.api.prepare, daemon=True).start()
        if args.open:
            threading.Thread(target=webbrowser.open, args=(server.url,), daemon=True).start()
        server.serve_forever()
