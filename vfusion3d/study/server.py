"""A web page that shows inputs with two videos of each, and keeps which one a rater prefers."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from typing import Any

from vfusion3d.engine.learning.labels.files import check_name
from vfusion3d.errors import UsageError
from vfusion3d.local_server import HOST, Content, LocalHandler, LocalServer
from vfusion3d.study.pairs import Shown, Study
from vfusion3d.study.votes import FAILED, LEFT, PASSED, QUESTIONS, RIGHT, A, B, Votes


class StudySession:
    """What each rater sees next, and what they said so far.

    What leaves it names a trial by its place in the rater's own order and a video by its side: neither the page nor an
    address says which method is which, or what is an attention check.

    Args:
        study: What is shown.
        votes: Where the votes go.
        rater: The only one who rates; others give their names on the page.
    """

    def __init__(self, study: Study, votes: Votes, rater: str | None = None) -> None:
        self.study, self.votes = study, votes
        self.rater = None if rater is None else check_name(rater)
        self.schedule = lru_cache(maxsize=256)(study.schedule)

    def state(self, rater: str, place: int | None = None) -> dict[str, Any]:
        """What the page shows: a place of the rater's order (the first not yet rated by default), and its answers.

        Raises:
            UsageError: if the name cannot be used or there is no such place.
            OutputError: if the votes cannot be read.
        """
        rater = self._who(rater)
        if not rater:
            return {"rater": None}
        schedule = self.schedule(rater)
        answers: dict[int, dict[str, str]] = {}
        for vote in self.votes.all(rater):
            answers.setdefault(vote.trial, {})[vote.question] = vote.side
        rated = [len(answers.get(shown.trial.number, ())) == len(QUESTIONS) for shown in schedule]
        if place is None:
            place = next((k for k, done in enumerate(rated) if not done), len(schedule))
        given = {} if place == len(schedule) else answers.get(self._shown(rater, place).trial.number, {})
        return {
            "rater": rater,
            "total": len(schedule),
            "done": sum(rated),
            "place": place,
            "answers": {question: given.get(question) for question in QUESTIONS},
        }

    def vote(self, rater: str, place: int, question: str, side: str) -> dict[str, Any]:
        """Keep a vote; returns the new state of the same place.

        Raises:
            UsageError: if there is no such place, question or side.
            OutputError: if it cannot be written.
        """
        shown = self._shown(rater, place)
        if question not in QUESTIONS or side not in (LEFT, RIGHT):
            raise UsageError(f"There is no question {question!r} or no side {side!r}.")
        first = (side == LEFT) is not shown.flipped
        choices = (PASSED, FAILED) if shown.trial.is_check else (A, B)
        self.votes.add(self._who(rater), shown.trial.number, question, choices[not first], side)
        return self.state(rater, place)

    def media(self, rater: str, place: int, part: str) -> tuple[bytes, str]:
        """The ``input``, ``left`` or ``right`` file at a place, and its media type.

        Raises:
            UsageError: if there is none.
        """
        return self.study.media(self._shown(rater, place), part)

    def _who(self, rater: str) -> str:
        if self.rater is not None and rater not in ("", self.rater):
            raise UsageError(f"This page is {self.rater}'s; start `vfusion3d study` without --rater for several.")
        return self.rater or (check_name(rater) if rater else "")

    def _shown(self, rater: str, place: int) -> Shown:
        if not (rater := self._who(rater)):
            raise UsageError("Say who rates.")
        schedule = self.schedule(rater)
        if not 0 <= place < len(schedule):
            raise UsageError(f"There is no place {place}.")
        return schedule[place]


class StudyServer(LocalServer):
    """Serves the page, and the session behind it, to this machine alone unless a host is given.

    Args:
        session: What is rated.
        port: Where it listens; 0 for any that is free.
        host: The name or address it listens at.

    Raises:
        UsageError: if it cannot listen there.
    """

    def __init__(self, session: StudySession, port: int = 0, host: str = HOST) -> None:
        self.session = session
        super().__init__(_Handler, port, host)


class _Handler(LocalHandler):
    server: StudyServer

    def get(self, path: str, query: dict[str, str]) -> Content | dict[str, Any] | None:
        """The page, the state, or a file."""
        session, rater, place = self.server.session, query.get("rater", ""), query.get("place")
        if path == "/":
            page = resources.files("vfusion3d.study").joinpath("page.html").read_bytes()
            return Content(page, "text/html; charset=utf-8")
        if path == "/state":
            return session.state(rater, None if place is None else _place(place))
        if path in ("/input", "/left", "/right"):
            return Content(*session.media(rater, _place(place), path[1:]))
        return None

    def post(self, path: str, values: dict[str, Any]) -> Content | dict[str, Any] | None:
        """Keep a vote."""
        if path != "/vote":
            return None
        rater, question, side = (str(values.get(key, "")) for key in ("rater", "question", "side"))
        return self.server.session.vote(rater, _place(values.get("place")), question, side)


def _place(text: Any) -> int:
    try:
        return int(text)
    except (TypeError, ValueError):
        raise UsageError(f"There is no place {text!r}.") from None
