"""The server of the page: on this machine alone, for the page with the token alone."""

import hmac
import json
import logging
import secrets
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from graftdet.models.editor.api import EditorApi
from graftdet.models.editor.edited_file import SaveConflictError
from graftdet.utils.errors import UserError

ADDRESS = "127.0.0.1"
MAX_BODY = 4 << 20  # bytes of a request; a text of a model has at most 262,144 characters
TOKEN_HEADER = "X-GraftDet-Token"
SECONDS = 30  # that a client may take to send a request
STATIC = Path(__file__).with_name("static")
PAGES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/editor.js": ("editor.js", "text/javascript; charset=utf-8"),
    "/editor.css": ("editor.css", "text/css; charset=utf-8"),
}
NONCE = b"STYLE-NONCE"  # in index.html; the editor adds style sheets with it
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; style-src-attr 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

logger = logging.getLogger(__name__)


class RequestError(Exception):
    """A request that is refused: HTTP status and reason."""

    def __init__(self, status: HTTPStatus, reason: str):
        super().__init__(reason)
        self.status, self.reason = status, reason


class EditorServer(ThreadingHTTPServer):
    """Serves the page and its calls.

    Args:
        api: the calls.
        port: of 127.0.0.1; 0 takes a free one.

    Attributes:
        token: a random text that every call must carry; it is part of the address that is printed.

    Raises:
        UserError: the port is in use.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, api: EditorApi, port: int = 0):
        self.api, self.token = api, secrets.token_urlsafe(24)
        try:
            super().__init__((ADDRESS, port), _Handler)
        except (OSError, OverflowError) as error:
            raise UserError(f"--port {port}: cannot be used ({error})") from None

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self.server_address[1]

    @property
    def url(self) -> str:
        """The address with the token, which the browser does not send to any server (it is the fragment)."""
        return f"http://{ADDRESS}:{self.port}/#{self.token}"

    @property
    def hosts(self) -> frozenset[str]:
        """The names under which the server may be addressed."""
        return frozenset(f"{name}:{self.port}" for name in (ADDRESS, "localhost"))

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that closes its connection is nothing to report."""
        logger.debug("request of %s failed", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: EditorServer
    protocol_version = "HTTP/1.1"
    timeout = SECONDS

    def version_string(self) -> str:
        return "GraftDet"

    def do_GET(self) -> None:
        """Send a file of the page."""
        try:
            self._check_source()
            if self.path not in PAGES:
                raise RequestError(HTTPStatus.NOT_FOUND, "no such page")
            name, kind = PAGES[self.path]
            nonce = secrets.token_urlsafe(16)
            body = (STATIC / name).read_bytes()
            self._send(HTTPStatus.OK, body.replace(NONCE, nonce.encode()) if self.path == "/" else body, kind, nonce)
        except RequestError as error:
            self._refuse(error)

    def do_POST(self) -> None:
        """Answer a call of the page."""
        try:
            self._check_source()
            call = self._find_call()
            values = self._read_values()
        except RequestError as error:
            self._refuse(error)
            return
        try:
            self._send_json(HTTPStatus.OK, call(values))
        except SaveConflictError as error:
            self._send_json(HTTPStatus.CONFLICT, {"error": str(error), "conflict": True})
        except UserError as error:
            self._send_json(HTTPStatus.UNPROCESSABLE_ENTITY, {"error": str(error)})
        except OSError as error:
            self._send_json(HTTPStatus.UNPROCESSABLE_ENTITY, {"error": str(error)})

    def _check_source(self) -> None:
        """Refuse requests under other names (DNS rebinding) and of pages of other origins."""
        if self.headers.get("Host") not in self.server.hosts:
            raise RequestError(HTTPStatus.FORBIDDEN, "wrong Host header")
        origin = self.headers.get("Origin")
        if origin is not None and origin not in {f"http://{host}" for host in self.server.hosts}:
            raise RequestError(HTTPStatus.FORBIDDEN, "wrong Origin header")
        if self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            raise RequestError(HTTPStatus.FORBIDDEN, "request of another site")

    def _find_call(self):
        token = self.headers.get(TOKEN_HEADER, "").encode("utf-8", "replace")
        if not hmac.compare_digest(token, self.server.token.encode()):
            raise RequestError(HTTPStatus.FORBIDDEN, "wrong token; open the address that the program printed")
        call = self.server.api.calls.get(self.path.removeprefix("/api/"))
        if call is None or not self.path.startswith("/api/"):
            raise RequestError(HTTPStatus.NOT_FOUND, "no such call")
        return call

    def _read_values(self) -> Mapping[str, Any]:
        if self.headers.get_content_type() != "application/json":
            raise RequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected application/json")
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit() or "Transfer-Encoding" in self.headers:
            raise RequestError(HTTPStatus.LENGTH_REQUIRED, "expected Content-Length")
        if int(length) > MAX_BODY:
            raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {MAX_BODY} bytes")
        try:
            values = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            raise RequestError(HTTPStatus.BAD_REQUEST, "expected JSON") from None
        if not isinstance(values, dict):
            raise RequestError(HTTPStatus.BAD_REQUEST, "expected a JSON mapping")
        return values

    def _refuse(self, error: RequestError) -> None:
        self.close_connection = True  # its body was not read
        self._send_json(error.status, {"error": error.reason})

    def _send_json(self, status: HTTPStatus, values: Any) -> None:
        self._send(status, json.dumps(values).encode(), "application/json")

    def _send(self, status: HTTPStatus, body: bytes, kind: str, nonce: str = "none") -> None:
        self.send_response(status)
        policy = {"Content-Security-Policy": POLICY.format(nonce=nonce)}
        for name, value in {**HEADERS, **policy, "Content-Type": kind, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug(format, *args)
