"""A web page on this machine that shows one video after another and keeps what a person says of it."""

from __future__ import annotations

import json
import threading
from collections import Counter
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any
from urllib.parse import parse_qs, urlsplit

from vfusion3d.data.randomness import hash_order
from vfusion3d.engine.learning.labels.agreement import agreement
from vfusion3d.engine.learning.labels.files import BAD, GOOD, SKIP, LabelFile, read_labels
from vfusion3d.engine.learning.videos import Videos
from vfusion3d.errors import UsageError, VFusion3DError

HOST = "127.0.0.1"
_MOST = 4096  # bytes of a request's body
_KINDS = {b"\x89PNG": "image/png", b"RIFF": "image/webp"}


class LabelSession:
    """Which video is next, and what was said so far.

    The order is random, but the same for everyone and the same again after a restart, and does not depend on which
    other videos there are: two people who label the first hundred each have labelled the same ones.

    Args:
        videos: The videos.
        labels: Where the labels go.
        limit: Label only so many of them.
    """

    def __init__(self, videos: Videos, labels: LabelFile, limit: int | None = None) -> None:
        self.videos, self.labels = videos, labels
        self.order = [videos.ids[k] for k in hash_order(videos.ids)[:limit]]
        self._known = set(self.order)
        self._places = {video: place for place, video in enumerate(self.order)}
        self._next = 0
        self._lock = threading.Lock()
        self._shown: dict[str, list[bytes]] = {}

    def state(self) -> dict[str, Any]:
        """What the page shows: counts, the video to label (null when all are), and the one after it."""
        with self._lock:
            return self._state()

    def label(self, video: str, label: str) -> dict[str, Any]:
        """Keep a label; returns the new state.

        Raises:
            UsageError: if there is no such video or label.
            OutputError: if it cannot be written.
        """
        with self._lock:
            if video not in self._known:
                raise UsageError(f"There is no video {video!r} to label.")
            self.labels.add(video, label)
            return self._state()

    def undo(self) -> dict[str, Any]:
        """Take the last label back, whose video comes again.

        Raises:
            OutputError: if that cannot be written.
        """
        with self._lock:
            video = self.labels.undo()
            self._next = min(self._next, self._places.get(video or "", self._next))
            return self._state()

    def frame(self, video: str, number: int) -> bytes:
        """A frame's picture file.

        Raises:
            UsageError: if there is none.
            VFusion3DError: if it cannot be read.
        """
        if video not in self._known:
            raise UsageError(f"There is no video {video!r}.")
        frames = self._frames(video)
        if not 0 <= number < len(frames):
            raise UsageError(f"The video {video!r} has no frame {number}.")
        return frames[number]

    def _frames(self, video: str) -> list[bytes]:
        frames = self._shown.get(video)
        if frames is None:
            frames = self.videos.frames(video)
            while len(self._shown) >= 4:  # this one, the next, and those of requests under way
                self._shown.pop(next(iter(self._shown)), None)
            self._shown[video] = frames
        return frames

    def _state(self) -> dict[str, Any]:
        given = self.labels.labels
        while self._next < len(self.order) and self.order[self._next] in given:
            self._next += 1
        after = next((k for k in range(self._next + 1, len(self.order)) if self.order[k] not in given), None)
        counts = Counter(label for video, label in given.items() if video in self._known)
        return {
            "name": self.labels.name,
            "total": len(self.order),
            "done": sum(counts.values()),
            **{label: counts[label] for label in (GOOD, BAD, SKIP)},
            "video": self._about(self._next) if self._next < len(self.order) else None,
            "after": None if after is None else self._about(after),
            "agreement": [] if self._next < len(self.order) else self._agreement(),
        }

    def _about(self, place: int) -> dict[str, Any]:
        video = self.order[place]
        about: dict[str, Any] = {"id": video, "prompt": "", "frames": 0, "error": None}
        try:
            return {**about, "prompt": self.videos.prompt(video), "frames": len(self._frames(video))}
        except VFusion3DError as error:
            return {**about, "error": str(error)}

    def _agreement(self) -> list[str]:
        """With everybody else who has labelled here."""
        try:
            others = read_labels(self.labels.path.parent)
        except UsageError as error:  # a broken file of somebody else must not end this
            return [str(error)]
        mine = self.labels.name
        return [
            str(agreement((mine, name), self.labels.labels, labels)) for name, labels in others.items() if name != mine
        ]


class LabelServer(ThreadingHTTPServer):
    """Serves the page, and the session behind it, to this machine alone.

    Args:
        session: What is labelled.
        port: Where it listens; 0 for any that is free.

    Raises:
        UsageError: if the port is taken.
    """

    daemon_threads = True

    def __init__(self, session: LabelSession, port: int = 0) -> None:
        self.session = session
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            raise UsageError(f"Port {port} cannot be used ({error}); choose another one with --port.") from error
        self.address = f"http://{HOST}:{self.server_address[1]}/"
        """Of the page."""


class _Handler(BaseHTTPRequestHandler):
    server: LabelServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """The page, the state, or a frame."""
        url = urlsplit(self.path)
        if not self._from_here():
            return
        if url.path == "/":
            page = resources.files("vfusion3d.engine.learning.labels").joinpath("page.html").read_bytes()
            self._send(HTTPStatus.OK, page, "text/html; charset=utf-8")
        elif url.path == "/state":
            self._answer(lambda: self.server.session.state())
        elif url.path == "/frame":
            query = parse_qs(url.query)
            try:
                video, number = query["id"][0], int(query["frame"][0])
                content = self.server.session.frame(video, number)
            except (KeyError, ValueError, VFusion3DError) as error:
                self._send_json(HTTPStatus.NOT_FOUND, {"error": str(error)})
                return
            self._send(HTTPStatus.OK, content, _KINDS.get(content[:4], "image/jpeg"), cached=True)
        else:
            self._send_json(HTTPStatus.NOT_FOUND, {"error": f"There is nothing at {url.path}."})

    def do_POST(self) -> None:
        """Keep a label, or take one back."""
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(min(length, _MOST))
        # A page of another site can make a browser send forms here, but no JSON.
        if not self._from_here():
            return
        try:
            if self.headers.get_content_type() != "application/json" or length > _MOST:
                raise ValueError("not JSON, or too long")
            values = json.loads(body)
            video, label = str(values.get("id", "")), str(values.get("label", ""))
        except (ValueError, AttributeError):
            self.close_connection = True
            self._send_json(HTTPStatus.BAD_REQUEST, {"error": "A request must be a JSON object."})
            return
        session = self.server.session
        if self.path == "/label":
            self._answer(lambda: session.label(video, label))
        elif self.path == "/undo":
            self._answer(session.undo)
        else:
            self._send_json(HTTPStatus.NOT_FOUND, {"error": f"There is nothing at {self.path}."})

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a line for every frame is no use."""

    def _from_here(self) -> bool:
        """Refuse names that somebody else's server gave this machine (DNS rebinding)."""
        port = self.server.server_address[1]
        if self.headers.get("Host") in (f"{HOST}:{port}", f"localhost:{port}"):
            return True
        self._send_json(HTTPStatus.FORBIDDEN, {"error": f"Open {self.server.address}."})
        return False

    def _answer(self, make: Any) -> None:
        try:
            self._send_json(HTTPStatus.OK, make())
        except UsageError as error:
            self._send_json(HTTPStatus.BAD_REQUEST, {"error": str(error)})
        except VFusion3DError as error:
            self._send_json(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": str(error)})

    def _send_json(self, status: HTTPStatus, values: Any) -> None:
        self._send(status, json.dumps(values).encode(), "application/json")

    def _send(self, status: HTTPStatus, content: bytes, kind: str, cached: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "private, max-age=3600" if cached else "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(content)
