from __future__ import annotations

import csv
import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from vfusion3d.errors import OutputError, UsageError
from vfusion3d.study import Design, Trial, Votes

DESIGN = Design("digest", ("ours", "theirs"), tuple(Trial(number, f"i{number}", number == 3) for number in range(4)))


def test_the_last_vote_counts_and_the_first_is_kept(tmp_path):
    votes = Votes(tmp_path / "votes.db", DESIGN)
    votes.add("anna", 0, "quality", "a", "left")
    votes.add("ben", 0, "quality", "a", "left")
    votes.add("anna", 0, "quality", "b", "right")
    again = Votes(tmp_path / "votes.db")
    assert again.design == DESIGN
    assert [(one.rater, one.choice, one.side) for one in again.all()] == [("anna", "b", "right"), ("ben", "a", "left")]
    assert [one.choice for one in votes.all("ben")] == ["a"] and votes.all("cleo") == []
    with sqlite3.connect(tmp_path / "votes.db") as database:
        assert database.execute("SELECT count(*) FROM given").fetchone() == (3,)
    assert [path.name for path in tmp_path.iterdir()] == ["votes.db"]  # one file, to copy and to send


def test_csv(tmp_path):
    votes = Votes(tmp_path / "votes.db", DESIGN)
    votes.add("anna", 1, "quality", "b", "left")
    votes.add("anna", 3, "faithfulness", "passed", "right")
    assert votes.write_csv(tmp_path / "votes.csv") == 2
    with open(tmp_path / "votes.csv", newline="") as file:
        rows = [(row["input"], row["check"], row["choice"], row["side"]) for row in csv.DictReader(file)]
    assert rows == [("i1", "0", "theirs", "left"), ("i3", "1", "passed", "right")]


WRITER = """
import sys
from vfusion3d.study.votes import Votes
votes = Votes(sys.argv[1])
number = 0
while number < int(sys.argv[3]):
    votes.add(sys.argv[2], number % 4, "quality" if number % 8 < 4 else "faithfulness", "a", "left")
    number += 1
    print(number, flush=True)
"""


def test_writers_at_once_and_a_kill(tmp_path):
    """Two processes write all theirs while a third is killed: what it said it kept is there, and the file is whole."""
    path = tmp_path / "votes.db"
    Votes(path, DESIGN)

    def start(rater: str, count: int) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-c", WRITER, path, rater, str(count)], stdout=subprocess.PIPE, text=True
        )

    writers, killed = [start("anna", 40), start("ben", 40)], start("cleo", 10**6)
    assert killed.stdout is not None
    while int(killed.stdout.readline()) < 10:
        pass
    os.kill(killed.pid, signal.SIGKILL)
    said = 10 + len(killed.stdout.readlines())
    for writer in writers:
        assert writer.communicate()[0].splitlines()[-1] == "40" and writer.returncode == 0
    assert killed.wait() == -signal.SIGKILL
    with sqlite3.connect(path) as database:
        given = dict(database.execute("SELECT rater, count(*) FROM given GROUP BY rater"))
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert given["anna"] == given["ben"] == 40 and said <= given["cleo"] <= said + 1
    assert len(Votes(path).all()) == 8 + 8 + 8


def test_a_transaction_waits_for_anothers(tmp_path):
    votes = Votes(tmp_path / "votes.db", DESIGN)
    other = sqlite3.connect(votes.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    code = f"from vfusion3d.study.votes import Votes; Votes({str(votes.path)!r}).add('anna', 0, 'quality', 'a', 'left')"
    waiting = subprocess.Popen([sys.executable, "-c", code])
    time.sleep(0.5)
    other.execute("ROLLBACK")
    assert waiting.wait() == 0 and len(votes.all()) == 1


def test_files_that_are_refused(tmp_path):
    path = tmp_path / "votes.db"
    Votes(path, DESIGN)
    with pytest.raises(UsageError, match="are those of another study"):
        Votes(path, replace(DESIGN, digest="other"))
    with pytest.raises(UsageError, match="name the methods ours and theirs"):
        Votes(path, replace(DESIGN, methods=("theirs", "ours")))
    with pytest.raises(UsageError, match=r"There are no votes in .*absent\.db"):
        Votes(tmp_path / "absent.db")
    (tmp_path / "text").write_text("no database, but a file of more than one hundred bytes, " * 4)
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE something (x)")
    other.commit()
    for name in ("text", "other.db"):
        before = (tmp_path / name).read_bytes()
        for design in (None, DESIGN):
            with pytest.raises(UsageError, match=f"{name} is no file of votes"):
                Votes(tmp_path / name, design)
        assert (tmp_path / name).read_bytes() == before
    with pytest.raises(OutputError, match="cannot be opened or written"):
        Votes(tmp_path / "no folder" / "votes.db", DESIGN)
