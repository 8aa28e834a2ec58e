"""A real browser labels videos by keyboard."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from tests.browser import Page
from tests.engine import disc_orbits
from vfusion3d.engine.learning.labels import LabelFile, LabelServer, LabelSession
from vfusion3d.engine.learning.videos import open_videos
from vfusion3d.errors import OutputError


@pytest.mark.slow
def test_a_person_labels(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disc_orbits.shard_set(tmp_path / "set", 4)
    videos = open_videos(tmp_path / "set")
    LabelFile(tmp_path / "labels", "ben").add(videos.ids[0], "good")
    labels = LabelFile(tmp_path / "labels", "anna")
    server = LabelServer(LabelSession(videos, labels))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    order = server.session.order
    page.call("Page.navigate", url=server.address)
    ready = "document.querySelectorAll('#sheet img').length && [...document.querySelectorAll('#sheet img')].every("
    page.until(ready + "one => one.complete && one.naturalWidth === 32)", True)
    assert page.value("document.getElementById('count').textContent") == "0 of 4"
    assert page.value("document.getElementById('prompt').textContent") == videos.prompt(order[0])
    assert page.value("document.querySelectorAll('#sheet img').length") == 16
    shown = page.value("document.getElementById('orbit').src")
    page.until(f"document.getElementById('orbit').src !== {json.dumps(shown)}", True)  # it turns
    if "VFUSION3D_SCREENSHOT" in os.environ:
        page.screenshot(Path(os.environ["VFUSION3D_SCREENSHOT"]))
    for number, key in enumerate(("g", "ArrowLeft", "s"), 1):
        page.press(key)
        page.until("document.getElementById('count').textContent", f"{number} of 4")
    page.press("u")
    page.until("document.getElementById('count').textContent", "2 of 4")
    assert labels.labels == {order[0]: "good", order[1]: "bad"}
    for number, key in enumerate(("B", "ArrowRight"), 3):
        page.press(key)
        page.until("document.getElementById('count').textContent", f"{number} of 4")
    assert labels.labels == dict(zip(order, ("good", "bad", "bad", "good"), strict=True))
    said = "good" if labels.labels[videos.ids[0]] == "good" else "bad"
    expected = f"anna and ben agree on {int(said == 'good')} of 1 videos"
    page.until(f"document.getElementById('end').textContent.includes({json.dumps(expected)})", True)
    assert labels.path.read_text().count("\n") == 1 + 6
    page.value("document.getElementById('undo').click()")
    page.until("document.getElementById('count').textContent", "3 of 4")

    def full(video: str, label: str) -> None:
        raise OutputError("The disk is full.")

    monkeypatch.setattr(labels, "add", full)
    page.press("g")
    page.until("document.getElementById('error').textContent", "This was not saved: The disk is full.")
    assert page.value("document.getElementById('count').textContent") == "3 of 4"
    server.shutdown()
    server.server_close()
