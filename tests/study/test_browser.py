"""A rater in a real browser, by keyboard and by mouse, and then the report."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.browser import Page
from tests.study.turntables import write_study
from vfusion3d.cli import main

COUNT = "document.getElementById('count').textContent"
SHOWN = "document.getElementById('trial').dataset.shown"
# The first pixel of what a side shows, which tells A (red) from B (blue).
COLOUR = """(() => {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 32;
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.drawImage(document.querySelector("#SIDE video"), 0, 0, 32, 32);
  let [red, blue] = [0, 0];
  context.getImageData(0, 0, 32, 32).data.forEach((value, k) => { if (k % 4 === 0) red += value;
                                                                  if (k % 4 === 2) blue += value; });
  return red > blue ? "ours" : "theirs";
})()"""


@pytest.mark.slow
def test_a_rater_votes_and_the_report_says_so(page: Page, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs, pictures = write_study(tmp_path)
    votes = tmp_path / "votes.db"
    command = [ours, theirs, "--inputs", pictures, "--votes", votes, "--checks", "0"]
    server = subprocess.Popen(
        [sys.executable, "-m", "vfusion3d.cli", "study", *map(str, command)], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    line = server.stdout.readline()
    assert line.startswith("Rate 4 pairs at http://127.0.0.1:")
    page.call("Page.navigate", url=line.split(" at ")[1].split(";")[0])
    page.until("document.getElementById('who') && !document.getElementById('who').hidden", True)
    page.value("document.getElementById('typed').value = 'anna'")
    page.value("document.querySelector('#who button').click()")
    page.until(COUNT, "0 of 4")
    page.until(SHOWN, "0")
    page.until("document.querySelector('#left video').currentTime > 0.1", True)  # it turns

    def side_of(method: str) -> str:
        left, right = (page.value(COLOUR.replace("SIDE", side)) for side in ("left", "right"))
        assert {left, right} == {"ours", "theirs"}
        return "left" if left == method else "right"

    keys = {"left": "ArrowLeft", "right": "ArrowRight"}
    other = {"left": "right", "right": "left"}
    for number in range(3):  # ours is better; theirs is more faithful
        side = side_of("ours")
        page.press(keys[side])
        page.until("document.querySelector('.active').id", "faithfulness")
        page.press(keys[other[side]])
        page.until(COUNT, f"{number + 1} of 4")
        page.until(SHOWN, str(number + 1))
    side = side_of("theirs")  # the last one by mouse, and the other way round
    page.value(f"document.querySelector('#faithfulness [data-side={side}]').click()")
    page.until("document.querySelector('#faithfulness .chosen').dataset.side", side)
    page.value(f"document.querySelector('#quality [data-side={side}]').click()")
    page.until("document.getElementById('end').hidden", False)
    page.press("u")
    page.until(SHOWN, "3")
    assert page.value("document.querySelector('#quality .chosen').dataset.side") == side
    page.press(keys[side_of("ours")])  # changes what was said
    page.until("document.querySelector('#quality .chosen').dataset.side", other[side])
    page.press("Enter")
    page.until("document.getElementById('end').hidden", False)
    page.call("Page.reload")
    page.until("document.getElementById('end') && document.getElementById('name').textContent", "anna")
    page.until(COUNT, "4 of 4")
    addresses = page.value("performance.getEntriesByType('resource').map(one => one.name).join(' ')")
    assert "ours" not in addresses and "theirs" not in addresses
    server.send_signal(signal.SIGINT)
    assert server.stdout.read() == f"{votes}: 8 votes of 1 rater.\n" and server.wait() == 0

    assert main(["study", "--votes", str(votes), "--report", "--json"]) == 0
    quality, faithfulness = json.loads(capsys.readouterr().out)["winners"]
    assert (quality["wins"], quality["losses"]) == (4, 0)
    assert (faithfulness["wins"], faithfulness["losses"]) == (0, 4)
    assert not os.path.exists(f"{votes}-journal")
