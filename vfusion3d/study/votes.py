"""Votes on disk: one SQLite file for all raters, which also says of which study they are."""

from __future__ import annotations

import csv
import io
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass
from datetime import datetime, timezone
from pathlib import Path

from vfusion3d.errors import OutputError, UsageError
from vfusion3d.outputs import write_atomically

QUESTIONS = ("quality", "faithfulness")
"""The paper's two: generation quality, and faithfulness to the picture."""
A, B, PASSED, FAILED = "a", "b", "passed", "failed"
LEFT, RIGHT = "left", "right"

_APPLICATION = 0x76663364  # "vf3d", by which SQLite's header says whose file it is
_SCHEMA = """
CREATE TABLE study (digest TEXT NOT NULL, a TEXT NOT NULL, b TEXT NOT NULL);
CREATE TABLE trials (number INTEGER PRIMARY KEY, name TEXT NOT NULL, is_check INTEGER NOT NULL);
CREATE TABLE given (
  number INTEGER PRIMARY KEY, rater TEXT NOT NULL, trial INTEGER NOT NULL REFERENCES trials (number),
  question TEXT NOT NULL, choice TEXT NOT NULL, side TEXT NOT NULL, time TEXT NOT NULL);
CREATE INDEX of_rater ON given (rater, trial, question);
CREATE VIEW votes AS
  SELECT rater, trial, question, choice, side, time, max(number) AS number FROM given GROUP BY rater, trial, question;
"""
_PATIENCE = 30.0  # seconds to wait for another's transaction


@dataclass(frozen=True)
class Trial:
    """Two videos to compare.

    Args:
        number: In the study: pairs from 0 on, then attention checks.
        name: Of the input.
        is_check: Whether it is an attention check, which does not count for either method.
    """

    number: int
    name: str
    is_check: bool


@dataclass(frozen=True)
class Design:
    """What a study's votes are votes on.

    Args:
        digest: Of all its videos and pictures and of what decides the order; votes of another digest are refused.
        methods: Names of the two, A and B.
        trials: All of them, by number.
    """

    digest: str
    methods: tuple[str, str]
    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class Vote:
    """A rater's answer to a question on a trial.

    Args:
        rater: Who.
        trial: Its number.
        question: One of `QUESTIONS`.
        choice: ``a`` or ``b`` on a pair; ``passed`` or ``failed`` on an attention check.
        side: Where the chosen video was, ``left`` or ``right``.
        time: When, ISO 8601 in UTC.
    """

    rater: str
    trial: int
    question: str
    choice: str
    side: str
    time: str


class Votes:
    """A study's votes.

    A vote is on the disk before `add` returns, in a transaction of its own, so several processes and threads may write;
    what a killed process left half-done is rolled back by the next. The last vote of a rater on a question counts, and
    the earlier ones stay in the table ``given``.

    Args:
        path: The file.
        design: The study; the file is made if there is none. Without it the file must exist, and says itself.

    Raises:
        UsageError: if there is no such file, or it holds no votes or those of another study.
        OutputError: if it cannot be written.

    Example:
        >>> import tempfile
        >>> design = Design("d", ("ours", "theirs"), (Trial(0, "cup", False),))
        >>> votes = Votes(tempfile.mkdtemp() + "/votes.db", design)
        >>> votes.add("anna", 0, "quality", "b", "left")
        >>> votes.add("anna", 0, "quality", "a", "right")
        >>> [vote.choice for vote in Votes(votes.path).all()]
        ['a']
    """

    def __init__(self, path: str | os.PathLike[str], design: Design | None = None) -> None:
        self.path = Path(path)
        if design is None and not self.path.is_file():
            raise UsageError(f"There are no votes in {path}: name the file that `vfusion3d study` wrote.")
        with self._transaction(write=design is not None) as database:
            if design is not None and not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                _create(database, design)
            if database.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION:
                raise UsageError(f"The file {path} is no file of votes; choose another one with --votes.")
            digest, *methods = database.execute("SELECT digest, a, b FROM study").fetchone()
            rows = database.execute("SELECT number, name, is_check FROM trials ORDER BY number").fetchall()
        trials = tuple(Trial(number, name, bool(is_check)) for number, name, is_check in rows)
        self.design = Design(digest, (methods[0], methods[1]), trials)
        """Of the study whose votes they are."""
        if design is not None and design.digest != digest:
            raise UsageError(
                f"The votes {path} are those of another study (its videos, pictures, --seed or --checks differ); "
                "choose another file with --votes."
            )
        if design is not None and design.methods != self.design.methods:
            raise UsageError(
                f"The votes {path} name the methods {methods[0]} and {methods[1]}; give these with --names, or choose "
                "another file with --votes."
            )

    def add(self, rater: str, trial: int, question: str, choice: str, side: str) -> None:
        """Keep a vote, in place of an earlier one on the same question.

        Raises:
            OutputError: if it cannot be written; it is not counted as given then.
        """
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        vote = Vote(rater, trial, question, choice, side, now)
        with self._transaction(write=True) as database:
            database.execute(
                "INSERT INTO given (rater, trial, question, choice, side, time) VALUES (?, ?, ?, ?, ?, ?)",
                astuple(vote),
            )

    def all(self, rater: str | None = None) -> list[Vote]:
        """The votes that count, of one rater or of all, by rater and trial.

        Raises:
            OutputError: if they cannot be read.
        """
        where, names = ("WHERE rater = ? ", (rater,)) if rater is not None else ("", ())
        query = (
            f"SELECT rater, trial, question, choice, side, time FROM votes {where}ORDER BY rater, trial, question DESC"
        )
        with self._transaction(write=False) as database:
            return [Vote(*row) for row in database.execute(query, names)]

    def write_csv(self, path: str | os.PathLike[str]) -> int:
        """Write the votes that count as CSV, a line each; returns how many.

        Raises:
            OutputError: if they cannot be read or the file cannot be written.
        """
        names = dict(zip((A, B), self.design.methods, strict=True))
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["rater", "input", "check", "question", "choice", "side", "time"])
        votes = self.all()
        for vote in votes:
            trial = self.design.trials[vote.trial]
            choice = names.get(vote.choice, vote.choice)
            row = [vote.rater, trial.name, int(trial.is_check), vote.question, choice, vote.side, vote.time]
            writer.writerow(row)
        write_atomically(Path(path), text.getvalue().encode())
        return len(votes)

    @contextmanager
    def _transaction(self, write: bool) -> Iterator[sqlite3.Connection]:
        """A connection for one transaction; no other process's can come between one that writes."""
        try:
            with closing(sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)) as database:
                database.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                yield database
                database.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise OutputError(f"The votes {self.path} cannot be opened or written ({error}).") from error
        except sqlite3.DatabaseError as error:
            raise UsageError(
                f"The file {self.path} is no file of votes ({error}); choose another one with --votes."
            ) from error


def _create(database: sqlite3.Connection, design: Design) -> None:
    for statement in _SCHEMA.split(";")[:-1]:  # `executescript` would end the transaction
        database.execute(statement)
    database.execute("INSERT INTO study VALUES (?, ?, ?)", (design.digest, *design.methods))
    database.executemany("INSERT INTO trials VALUES (?, ?, ?)", [astuple(trial) for trial in design.trials])
    database.execute(f"PRAGMA application_id = {_APPLICATION}")
