"""A web page on this machine that shows one video after another and keeps what a person says of it."""

from __future__ import annotations

import threading
from collections import Counter
from importlib import resources
from typing import Any

from vfusion3d.data.randomness import hash_order
from vfusion3d.engine.learning.labels.agreement import agreement
from vfusion3d.engine.learning.labels.files import BAD, GOOD, SKIP, LabelFile, read_labels
from vfusion3d.engine.learning.videos import Videos
from vfusion3d.errors import UsageError, VFusion3DError
from vfusion3d.local_server import Content, LocalHandler, LocalServer

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


class LabelServer(LocalServer):
    """Serves the page, and the session behind it, to this machine alone.

    Args:
        session: What is labelled.
        port: Where it listens; 0 for any that is free.

    Raises:
        UsageError: if the port is taken.
    """

    def __init__(self, session: LabelSession, port: int = 0) -> None:
        self.session = session
        super().__init__(_Handler, port)


class _Handler(LocalHandler):
    server: LabelServer

    def get(self, path: str, query: dict[str, str]) -> Content | dict[str, Any] | None:
        """The page, the state, or a frame."""
        if path == "/":
            page = resources.files("vfusion3d.engine.learning.labels").joinpath("page.html").read_bytes()
            return Content(page, "text/html; charset=utf-8")
        if path == "/state":
            return self.server.session.state()
        if path == "/frame":
            try:
                data = self.server.session.frame(query["id"], int(query["frame"]))
            except (KeyError, ValueError, VFusion3DError) as error:
                raise LookupError(str(error)) from error
            return Content(data, _KINDS.get(data[:4], "image/jpeg"), cached=True)
        return None

    def post(self, path: str, values: dict[str, Any]) -> Content | dict[str, Any] | None:
        """Keep a label, or take one back."""
        if path == "/label":
            return self.server.session.label(str(values.get("id", "")), str(values.get("label", "")))
        return self.server.session.undo() if path == "/undo" else None
