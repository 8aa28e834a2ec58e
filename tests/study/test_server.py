from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.study.turntables import write_study
from vfusion3d.errors import UsageError
from vfusion3d.study import QUESTIONS, Study, StudyServer, StudySession, Votes, find_pairs, make_report


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    return Study(find_pairs(*write_study(tmp_path_factory.mktemp("study"))), ("ours", "theirs"), checks=2)


@pytest.fixture
def serve(study: Study, tmp_path: Path) -> Iterator:
    servers = []

    def start(rater: str | None = None) -> StudyServer:
        servers.append(StudyServer(StudySession(study, Votes(tmp_path / "votes.db", study.design), rater)))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def ask(server, path, values=None, host=None, kind="application/json", **query):
    connection = http.client.HTTPConnection(*server.server_address, timeout=60)
    headers = {"Content-Type": kind} | ({"Host": host} if host else {})
    path += f"?{urlencode(query)}" if query else ""
    connection.request("POST" if values is not None else "GET", path, json.dumps(values) if values else None, headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    is_json = answer.headers["Content-Type"] == "application/json"
    return answer.status, json.loads(content) if is_json else content


def prefer_ours(server, study: Study, rater: str) -> None:
    """Rate everything by looking at the bytes: A's video in pairs, the intact one in checks."""
    _, state = ask(server, "/state", rater=rater)
    intact = {pair.a.read_bytes() for pair in study.pairs}
    theirs = {pair.b.read_bytes() for pair in study.pairs}
    while state["place"] < state["total"]:
        place = state["place"]
        left, right = (ask(server, f"/{side}", rater=rater, place=place)[1] for side in ("left", "right"))
        side = "left" if left in intact or (left in theirs and right not in intact) else "right"
        for question in QUESTIONS:
            vote = {"rater": rater, "place": place, "question": question, "side": side}
            status, answer = ask(server, "/vote", vote)
            assert status == 200 and answer["answers"][question] == side
        _, state = ask(server, "/state", rater=rater)


def test_raters_at_once(serve, study):
    server = serve()
    names = ["anna", "ben", "cleo"]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda name: prefer_ours(server, study, name), names))
    report = make_report(study.design, server.session.votes.all())
    assert [(one.wins, one.losses, one.alpha) for one in report.winners] == [(4, 0, None)] * 2
    assert [(one.name, one.pairs, one.passed, one.checks) for one in report.raters] == [(n, 4, 4, 4) for n in names]


def test_who_comes_back_goes_on(serve, study):
    server = serve()
    _, state = ask(server, "/state", rater="anna")
    assert (state["place"], state["done"], state["total"]) == (0, 0, 6)
    files = [ask(server, f"/{part}", rater="anna", place=1)[1] for part in ("input", "left", "right")]
    for question in QUESTIONS:
        assert ask(server, "/state", rater="anna")[1]["place"] == 0
        ask(server, "/vote", {"rater": "anna", "place": 0, "question": question, "side": "left"})
    again = serve("anna")  # another process
    _, state = ask(again, "/state")
    assert (state["rater"], state["place"], state["done"]) == ("anna", 1, 1)
    assert files == [ask(again, f"/{part}", place=1)[1] for part in ("input", "left", "right")]
    _, state = ask(again, "/vote", {"place": 0, "question": "quality", "side": "right"})  # back, and changed
    assert state["answers"] == {"quality": "right", "faithfulness": "left"} and state["done"] == 1
    assert ask(again, "/state", rater="ben") == (
        400,
        {"error": "This page is anna's; start `vfusion3d study` without --rater for several."},
    )


def test_nothing_tells_which_is_which(serve, study):
    """Neither names nor paths, nor which trial is an attention check."""
    server = serve()
    answers = [ask(server, "/")[1], *(json.dumps(ask(server, "/state", rater="anna", place=k)[1]) for k in range(6))]
    for answer in answers:
        text = answer.decode() if isinstance(answer, bytes) else answer
        assert not [word for word in ("ours", "theirs", ".mp4", "cup", "check") if word in text.replace("hours", "")]
    assert {tuple(json.loads(answer)) for answer in answers[1:]} == {("rater", "total", "done", "place", "answers")}


def test_requests_that_are_refused(serve):
    server = serve()
    assert ask(server, "/state") == (200, {"rater": None})
    vote = {"rater": "anna", "place": 0, "question": "quality", "side": "left"}
    for path, values, status in (
        ("/nothing", None, 404),
        ("/vote", vote | {"rater": ""}, 400),
        ("/vote", vote | {"rater": "../x"}, 400),
        ("/vote", vote | {"place": 6}, 400),
        ("/vote", vote | {"place": None}, 400),
        ("/vote", vote | {"question": "size"}, 400),
        ("/vote", vote | {"side": "a"}, 400),
        ("/vote", [1], 400),
        ("/left?rater=anna&place=-1", None, 400),
        ("/left?place=0", None, 400),
        ("/state?rater=anna&place=x", None, 400),
    ):
        assert ask(server, path, values)[0] == status, (path, values)
    assert ask(server, "/vote", vote, host="evil.example")[0] == 403
    assert ask(server, "/vote", vote, kind="text/plain")[0] == 400
    assert server.session.votes.all() == []
    port = server.server_address[1]
    with pytest.raises(UsageError, match=rf"Port {port} cannot be used"):
        StudyServer(server.session, port)
    with pytest.raises(UsageError, match=r"of no\.such\.host\.invalid cannot be used"):
        StudyServer(server.session, 0, "no.such.host.invalid")
