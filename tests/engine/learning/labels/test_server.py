from __future__ import annotations

import http.client
import io
import json
import threading
from collections.abc import Iterator

import pytest
from PIL import Image

from tests.engine import disc_orbits
from vfusion3d.engine.learning.labels import LabelFile, LabelServer, LabelSession
from vfusion3d.engine.learning.videos import open_videos
from vfusion3d.errors import UsageError


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    disc_orbits.shard_set(folder, 6)
    return open_videos(folder)


@pytest.fixture
def serve(videos, tmp_path) -> Iterator:
    servers = []

    def start(name: str, limit: int | None = None) -> LabelServer:
        servers.append(LabelServer(LabelSession(videos, LabelFile(tmp_path, name), limit)))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def ask(server, path, values=None, host=None, kind="application/json"):
    connection = http.client.HTTPConnection(*server.server_address, timeout=60)
    headers = {"Content-Type": kind} | ({"Host": host} if host else {})
    connection.request("POST" if values is not None else "GET", path, json.dumps(values) if values else None, headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    is_json = answer.headers["Content-Type"] == "application/json"
    return answer.status, json.loads(content) if is_json else content


def test_two_people_label(serve, videos, tmp_path):
    anna = serve("anna", limit=4)
    status, page = ask(anna, "/")
    assert status == 200 and b"<!doctype html>" in page and b"http" not in page  # it needs nothing from elsewhere
    _, state = ask(anna, "/state")
    order = []
    while state["video"]:
        video, after = state["video"], state["after"]
        order.append(video["id"])
        assert video["frames"] == 16 and video["prompt"] == videos.prompt(video["id"])
        status, content = ask(anna, f"/frame?id={video['id']}&frame=15")
        assert Image.open(io.BytesIO(content)).size == (32, 32)
        _, state = ask(anna, "/label", {"id": video["id"], "label": "good" if len(order) % 2 else "bad"})
        assert after is None or state["video"]["id"] == after["id"]
    assert len(order) == 4 and (state["done"], state["good"], state["bad"]) == (4, 2, 2)
    _, state = ask(anna, "/undo", {"now": True})
    assert state["video"]["id"] == order[-1] and state["done"] == 3

    again = serve("anna")  # another process: the same order, what was done is done, and there are more videos
    _, state = ask(again, "/state")
    assert state["video"]["id"] == order[-1] and (state["done"], state["total"]) == (3, 6)
    ben = serve("ben", limit=4)
    for video in order:
        _, state = ask(ben, "/label", {"id": video, "label": "good"})
    assert state["video"] is None
    assert state["agreement"] == ["ben and anna agree on 2 of 3 videos (66.7%), Cohen's kappa 0.00."]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["anna.csv", "ben.csv"]


def test_requests_that_are_refused(serve):
    server = serve("anna")
    for path, values, status in (
        ("/nothing", None, 404),
        ("/frame?id=disc_000&frame=16", None, 404),
        ("/frame?id=../x&frame=0", None, 404),
        ("/label", {"id": "nobody", "label": "good"}, 400),
        ("/label", {"id": "disc_000", "label": "fine"}, 400),
        ("/label", [1], 400),
    ):
        assert ask(server, path, values)[0] == status
    assert ask(server, "/label", {"id": "disc_000", "label": "good"}, host="evil.example")[0] == 403
    assert ask(server, "/label", {"id": "disc_000", "label": "good"}, kind="text/plain")[0] == 400
    assert ask(server, "/state")[1]["done"] == 0
    with pytest.raises(UsageError, match=r"Port \d+ cannot be used"):
        LabelServer(server.session, server.server_address[1])
