"""`graftdet serve WEIGHTS`: detection over HTTP."""

import argparse
import logging
import socket
from typing import TYPE_CHECKING

from graftdet.utils import cli
from graftdet.utils.cli.options import add_model_flags, add_selection_flags, image_size
from graftdet.utils.errors import UserError
from graftdet.utils.text import counted

if TYPE_CHECKING:
    from graftdet.models.inference.predict_settings import PredictSettings

logger = logging.getLogger(__name__)
SECONDS_TO_FINISH = 30  # for requests in progress, after SIGTERM or Ctrl-C


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add = parser.add_argument
    add("files", nargs="*", metavar="WEIGHTS", help="the same as --weights")
    add_model_flags(parser, backend="torch")
    add("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for all, which has no access control")
    add("--port", type=cli.at_least(0), default=8000, help="port to listen on; 0 for a free one")
    size = "longer side, or height and width, of the input in pixels (default: as trained)"
    add("--img", "--imgsz", "--img-size", type=int, nargs="+", help=size)
    add("--classes", nargs="+", metavar="CLASS", help="detect these classes only, given by index or name")
    add("--agnostic", action="store_true", help="suppress boxes across classes")
    add_selection_flags(parser, conf=0.25, iou=0.45)
    add("--device", default="", help="cpu, mps, cuda or the index of a CUDA device (default: the fastest available)")
    add("--max-batch", type=cli.at_least(1), default=8, help="images per call of the model")
    add("--max-wait", type=cli.at_least(0), default=5, help="time that an image waits for others [ms]")
    add("--max-mb", type=cli.at_least(1), default=16, help="largest upload [MB]")
    add("--max-megapixels", type=cli.at_least(1), default=50, help="largest image [million pixels]")
    add("--max-requests", type=cli.at_least(1), default=64, help="requests in progress; further ones get status 503")


def run(args: argparse.Namespace) -> None:
    """Load the model and serve it until SIGTERM or Ctrl-C."""
    try:
        import fastapi  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise UserError(f"serving needs {error.name}; install it with \"pip install 'graftdet[serve]'\"") from None
    from graftdet.models.backends.loading import load_models, model_request, newest_weights
    from graftdet.models.inference.serving.app import Limits, Service, make_app

    if args.files and args.weights:
        raise UserError("--weights: give the weights once, before or after it")
    weights = args.files or args.weights or [newest_weights()]
    model = load_models(weights, model_request(args))
    limits = Limits(
        max_bytes=args.max_mb * 2**20,
        max_pixels=args.max_megapixels * 1_000_000,
        max_requests=args.max_requests,
        max_batch=args.max_batch,
        max_wait=args.max_wait / 1000,
    )
    service = Service(model, predict_settings(args, model.stride), limits)
    config = uvicorn.Config(
        make_app(service),
        host=args.host,
        port=args.port,
        log_level="warning",
        timeout_graceful_shutdown=SECONDS_TO_FINISH,
    )
    server = uvicorn.Server(config)
    listening = bind(args.host, args.port)
    host, port = listening.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    logger.info(f"{', '.join(map(str, weights))}: {counted(model.nc, 'class')}, run by {model.backend}; {address}")
    server.run(sockets=[listening])


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises `UserError` if the address is unknown or in use."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--host {host} --port {port}: cannot listen there ({reason})") from None
    return listening


def predict_settings(args: argparse.Namespace, stride: int) -> "PredictSettings":
    """How images become detections."""
    from graftdet.models.inference.predict_settings import PredictSettings

    same = "conf iou max_det classes agnostic nms augment slice slice_overlap".split()
    settings = {name: getattr(args, name) for name in same}
    size = image_size(args.img, stride) if args.img else None
    return PredictSettings(size=size, batch_size=args.max_batch, **settings)
