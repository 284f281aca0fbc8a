"""The HTTP application of `graftdet serve`: POST /predict, GET /, /health and /metrics."""

import asyncio
import io
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graftdet.models.inference.detections import Detections
from graftdet.models.inference.predict_settings import PredictSettings
from graftdet.models.inference.predictor import Predictor
from graftdet.models.inference.serving.batching import Batcher
from graftdet.models.inference.serving.metrics import CONTENT_TYPE, Metrics
from graftdet.utils.errors import UserError
from graftdet.utils.images.header import parse_header
from graftdet.utils.images.io import decode_image

if TYPE_CHECKING:
    from fastapi import FastAPI, Request

logger = logging.getLogger(__name__)
PAGE = Path(__file__).with_name("page.html")
IMAGES_IN_MEMORY = 4  # of the largest allowed size: requests beyond that are refused until others are finished


@dataclass(frozen=True)
class Limits:
    """What a server accepts.

    Attributes:
        max_bytes: size of an upload.
        max_pixels: width x height of an image.
        max_requests: requests in progress; further ones get status 503.
        max_batch: images per call of the model.
        max_wait: seconds that an image waits for others.
        max_seconds: time for an upload: slow ones would take the places of other requests.
    """

    max_bytes: int = 16 * 2**20
    max_pixels: int = 50_000_000
    max_requests: int = 64
    max_batch: int = 8
    max_wait: float = 0.005
    max_seconds: float = 30.0


class Refused(Exception):
    """A request that is answered with a status of 400 or more and one line."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status, self.reason = status, reason


class Service:
    """Answers requests with the detections of one model; independent of the web framework but for the request itself.

    Args:
        predictor: the model.
        settings: how images become detections.
        limits: what is accepted.
    """

    def __init__(self, predictor: Predictor, settings: PredictSettings, limits: Limits):
        self.predictor, self.limits, self.metrics = predictor, limits, Metrics()
        steps = predictor.steps(settings)  # checks the settings
        self._batcher = Batcher(
            lambda images: list(steps.run(images, len(images))),
            limits.max_batch,
            limits.max_wait,
            self.metrics.add_batch,
        )
        self._pixels = 0  # of images in memory

    async def predict(self, request: "Request") -> dict[str, Any]:
        """The detections of the image in a request, as plain data. Raises `Refused`."""
        if self.metrics.in_flight >= self.limits.max_requests:
            raise Refused(503, "too many requests; try again later")
        self.metrics.in_flight += 1
        try:
            start = time.perf_counter()
            data = await read_upload(request, self.limits)
            detections = await self._detect(data)
        finally:
            self.metrics.in_flight -= 1
        height, width = detections.image.shape[:2]
        found = [
            {"box": one["box"], "score": one["score"], "class": one["label"], "name": one["name"]}
            for one in detections.to_dicts()
        ]
        milliseconds = 1000 * (time.perf_counter() - start)
        return {"width": width, "height": height, "detections": found, "milliseconds": milliseconds}

    async def _detect(self, data: bytes) -> Detections:
        pixels = self._check(data)
        self._pixels += pixels
        try:
            image = await asyncio.to_thread(decode, data)
            return await asyncio.wrap_future(self._batcher.submit(image))
        except RuntimeError as error:
            raise Refused(503, str(error)) from None
        finally:
            self._pixels -= pixels

    def _check(self, data: bytes) -> int:
        """The number of pixels of an image, from its header. Raises `Refused` for one that is not accepted."""
        header = parse_header(io.BytesIO(data))
        if header is None:
            raise Refused(400, "the upload is not an image of a known format")
        pixels, limit = header.width * header.height, self.limits.max_pixels
        if pixels > limit:
            raise Refused(413, f"the image is {header.width}x{header.height}, more than the limit of {limit} pixels")
        if self._pixels + pixels > max(IMAGES_IN_MEMORY * limit, pixels):
            raise Refused(503, "too many large images; try again later")
        return pixels

    def close(self) -> None:
        """Finish the images that were accepted."""
        self._batcher.close()


def decode(data: bytes) -> np.ndarray:
    """An image file as (H, W, 3) uint8 BGR. Raises `Refused`."""
    try:
        return decode_image(data, "the upload")
    except UserError as error:
        raise Refused(400, str(error)) from None


async def read_upload(request: "Request", limits: Limits) -> bytes:
    """The image in a request: its body, or the first file of a form. Raises `Refused`."""
    try:
        return await asyncio.wait_for(_read_body(request, limits.max_bytes), limits.max_seconds)
    except TimeoutError:
        raise Refused(408, f"the upload takes more than {limits.max_seconds:g} seconds") from None


async def _read_body(request: "Request", max_bytes: int) -> bytes:
    too_large = Refused(413, f"the upload is larger than the limit of {max_bytes} bytes")
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > max_bytes:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise too_large
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        return await file_of_form(request, bytes(body))
    if not body:
        raise Refused(400, "the request has no body; expected the bytes of an image")
    return bytes(body)


async def file_of_form(request: "Request", body: bytes) -> bytes:
    """The content of the first file of a form. Raises `Refused`."""
    from starlette.datastructures import UploadFile
    from starlette.formparsers import MultiPartException, MultiPartParser

    async def chunks() -> AsyncIterator[bytes]:
        yield body
        yield b""

    try:
        form = await MultiPartParser(request.headers, chunks()).parse()  # type: ignore[arg-type]
    except (MultiPartException, KeyError, ValueError) as error:
        raise Refused(400, f"the form is malformed ({error})") from None
    try:
        for _, value in form.multi_items():
            if isinstance(value, UploadFile):
                return await value.read()
    finally:
        await form.close()
    raise Refused(400, "the form has no file; expected one image")


def make_app(service: Service) -> "FastAPI":
    """The application that serves a model; it closes `service` when it ends."""
    from fastapi import FastAPI, Request
    from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
    from starlette.requests import ClientDisconnect

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(title="GraftDet", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)

    async def predict(request: Request) -> Response:
        """Detect objects in the image of the request."""
        start, found = time.perf_counter(), 0
        try:
            content = await service.predict(request)
            status, found = 200, len(content["detections"])
        except Refused as refused:
            status, content = refused.status, {"error": refused.reason}
        except ClientDisconnect:
            status, content = 400, {"error": "the upload is incomplete"}
        except Exception:
            logger.exception("a request failed")
            status, content = 500, {"error": "internal error; see the log of the server"}
        service.metrics.add_request(status, time.perf_counter() - start, found)
        return JSONResponse(content, status, {503: {"Retry-After": "1"}, 408: {"Connection": "close"}}.get(status))

    async def page() -> Response:
        """A page that detects in images dropped on it."""
        return HTMLResponse(PAGE.read_text(encoding="utf-8"))

    async def health() -> dict[str, Any]:
        """Whether the server is ready, and what it detects."""
        model = service.predictor
        return {"status": "ok", "backend": model.backend, "classes": model.names}

    async def metrics() -> Response:
        """Metrics for Prometheus."""
        return PlainTextResponse(service.metrics.text(), media_type=CONTENT_TYPE)

    app.add_api_route("/predict", predict, methods=["POST"])
    app.add_api_route("/", page, methods=["GET"])
    app.add_api_route("/health", health, methods=["GET"])
    app.add_api_route("/metrics", metrics, methods=["GET"])
    return app
