"""A web page that a command serves to this machine, and to a network only where that is asked for."""

from __future__ import annotations

import json
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from vfusion3d.errors import UsageError, VFusion3DError

HOST = "127.0.0.1"
_MOST = 4096  # bytes of a request's body


class Content(NamedTuple):
    """An answer that is no JSON: its bytes, their media type, and whether a browser may keep it for an hour."""

    data: bytes
    kind: str
    cached: bool = False


class LocalServer(ThreadingHTTPServer):
    """Serves a page in threads.

    Args:
        handler: What answers.
        port: Where it listens; 0 for any that is free.
        host: The name or address it listens at; this machine alone by default.

    Raises:
        UsageError: if it cannot listen there.
    """

    daemon_threads = True

    def __init__(self, handler: type[LocalHandler], port: int = 0, host: str = HOST) -> None:
        self.host = host
        try:
            super().__init__((host, port), handler)
        except (OSError, OverflowError) as error:
            where, option = (
                (f"Port {port}", "--port") if host == HOST else (f"Port {port} of {host}", "--port or --host")
            )
            raise UsageError(f"{where} cannot be used ({error}); choose another one with {option}.") from error
        self.address = f"http://{host}:{self.server_address[1]}/"
        """Of the page."""

    def answers_to(self, host: str) -> bool:
        """Whether a request's ``Host`` means this server, and is no name that somebody else's name server gave this
        machine (DNS rebinding)."""
        name, _, port = host.rpartition(":")
        return port == str(self.server_address[1]) and (name in (self.host, "localhost") or _is_address(name))


def _is_address(name: str) -> bool:
    try:
        return bool(ip_address(name))
    except ValueError:
        return False


class LocalHandler(BaseHTTPRequestHandler):
    """Answers requests by `get` and `post`, which a page fills in.

    What they return is sent: a `Content`, anything else as JSON, None as "there is nothing here" (404). A `LookupError`
    is a 404 too, a `UsageError` a 400, any other of the library's errors a 500, each with its sentence as ``error``.
    """

    server: LocalServer
    protocol_version = "HTTP/1.1"

    def get(self, path: str, query: dict[str, str]) -> Content | dict[str, Any] | None:
        """The answer to a GET."""
        return None

    def post(self, path: str, values: dict[str, Any]) -> Content | dict[str, Any] | None:
        """The answer to a POST of a JSON object."""
        return None

    def do_GET(self) -> None:
        """Answer by `get`."""
        url = urlsplit(self.path)
        if self._from_here():
            self._answer(url.path, lambda: self.get(url.path, dict(parse_qsl(url.query))))

    def do_POST(self) -> None:
        """Answer by `post`."""
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(min(length, _MOST))
        # A page of another site can make a browser send forms here, but no JSON.
        if not self._from_here():
            return
        try:
            if self.headers.get_content_type() != "application/json" or length > _MOST:
                raise ValueError("not JSON, or too long")
            values = json.loads(body)
            if not isinstance(values, dict):
                raise ValueError("no object")
        except ValueError:
            self.close_connection = True
            self._send_json(HTTPStatus.BAD_REQUEST, {"error": "A request must be a JSON object."})
            return
        self._answer(self.path, lambda: self.post(self.path, values))

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a line for every request is no use."""

    def _from_here(self) -> bool:
        if self.server.answers_to(self.headers.get("Host", "")):
            return True
        self._send_json(HTTPStatus.FORBIDDEN, {"error": f"Open {self.server.address}."})
        return False

    def _answer(self, path: str, make: Any) -> None:
        try:
            answer = make()
            if answer is None:
                raise LookupError(f"There is nothing at {path}.")
        except LookupError as error:
            self._send_json(HTTPStatus.NOT_FOUND, {"error": str(error)})
        except UsageError as error:
            self._send_json(HTTPStatus.BAD_REQUEST, {"error": str(error)})
        except VFusion3DError as error:
            self._send_json(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": str(error)})
        else:
            if isinstance(answer, Content):
                self._send(HTTPStatus.OK, answer)
            else:
                self._send_json(HTTPStatus.OK, answer)

    def _send_json(self, status: HTTPStatus, values: dict[str, Any]) -> None:
        self._send(status, Content(json.dumps(values).encode(), "application/json"))

    def _send(self, status: HTTPStatus, content: Content) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content.kind)
        self.send_header("Content-Length", str(len(content.data)))
        self.send_header("Cache-Control", "private, max-age=3600" if content.cached else "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(content.data)
