"""A real browser labels videos by keyboard: Chromium without a window, driven over its debugging pipe."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine import disc_orbits
from vfusion3d.engine.learning.labels import LabelFile, LabelServer, LabelSession
from vfusion3d.engine.learning.videos import open_videos
from vfusion3d.errors import OutputError

PATIENCE = 120  # seconds


class Page:
    """A page in Chromium, by the DevTools protocol; messages end with a zero byte."""

    def __init__(self, profile: Path) -> None:
        theirs, self.write = os.pipe()
        self.read, mine = os.pipe()
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run"]
        command = ["chromium", *flags, "--window-size=1100,900", f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{theirs} 4>&{mine}', "bash", *command],
            pass_fds=(theirs, mine),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs)
        os.close(mine)
        self.numbers, self.rest, self.session = itertools.count(1), b"", {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = {"sessionId": attached["sessionId"]}

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": parameters, **self.session}
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self.rest:
                more = os.read(self.read, 1 << 16)
                assert more, "Chromium has ended"
                self.rest += more
            answer, _, self.rest = self.rest.partition(b"\0")
            content = json.loads(answer)
            if content.get("id") == number:
                assert "error" not in content, content
                return content["result"]

    def value(self, script: str) -> Any:
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def until(self, script: str, wanted: Any) -> None:
        end = time.monotonic() + PATIENCE
        while (found := self.value(script)) != wanted:
            assert time.monotonic() < end, f"{script} is {found!r}, not {wanted!r}"
            time.sleep(0.05)

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key)

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.read)
        os.close(self.write)


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    if shutil.which("chromium") is None:
        pytest.skip("needs Chromium (Debian's package `chromium`)")
    page = Page(tmp_path / "profile")
    yield page
    page.close()


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
