"""What is kept, when several processes keep it."""

from __future__ import annotations

import multiprocessing

import pyarrow.parquet as pq
import pytest

from tests.engine.fakes import Draw, Picture, items
from vfusion3d.engine import Plan, Step, Store, run
from vfusion3d.errors import OutputError, UsageError

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def plan():
    return Plan([Step(Draw()), Step(Picture())], ["id", "prompt"])


def test_two_that_did_the_same_items_keep_them_once(plan, tmp_path, monkeypatch):
    table = items(4)
    ours, theirs = Store(tmp_path, table, unit=4), Store(tmp_path, table, unit=4)
    state = ours.look(plan, 0, 0)
    results = plan.steps[0].stage(state.todo)
    theirs.add(plan, 0, 0, results.slice(1, 2))  # while we were at it
    ours.add(plan, 0, 0, results, state.parts)
    assert [len(pq.read_table(path)) for path in ours.parts(plan, 0, 0)] == [2, 2]
    assert sorted(ours.results(plan, 0, 0)["id"].to_pylist()) == table["id"].to_pylist()

    numbers = ours._numbers
    known = []  # they come first between our look at the folder and our writing
    monkeypatch.setattr(ours, "_numbers", lambda *unit: numbers(*unit) if known else known.append(1) or [])
    ours.add(plan, 0, 0, results, [])
    assert len(ours.parts(plan, 0, 0)) == 2 and not [path for path in tmp_path.rglob(".*") if path.is_file()]


def test_a_claim_ends_with_its_process(plan, tmp_path):
    folder, (here, there) = Store(tmp_path, items(8), unit=4), FORK.Pipe()

    def hold():
        with folder.claim(plan, 0, 1) as ours:
            there.send(ours)
            there.recv()

    process = FORK.Process(target=hold)
    process.start()
    assert here.recv()
    for unit, free in ((0, True), (1, False)):
        with folder.claim(plan, 0, unit) as ours:
            assert ours == free
    process.kill()
    with folder.claim(plan, 0, 1, wait=True) as ours:
        assert ours
    process.join()


def test_a_store_that_was_opened_reads_units_alone(plan, tmp_path, monkeypatch):
    monkeypatch.setattr("vfusion3d.engine.store._GROUP", 8)
    table = items(21)
    Store(tmp_path, table, unit=3)
    opened = Store.open(tmp_path)
    assert (opened.rows, opened.units, opened.unit) == (21, 7, 3)
    assert [opened.unit_items(unit)["id"].to_pylist() for unit in (6, 0, 2)] == [
        ["i18", "i19", "i20"], ["i0", "i1", "i2"], ["i6", "i7", "i8"],
    ]  # fmt: skip
    assert opened.items.equals(table)
    with pytest.raises(UsageError, match="holds no run"):
        Store.open(tmp_path / "none")


def test_pictures_are_stored_as_they_are(plan, tmp_path):
    folder = Store(tmp_path, items(4), unit=4)
    run(plan, folder, quiet=True)
    group = pq.ParquetFile(folder.parts(plan, 1, 0)[0]).metadata.row_group(0)
    about = {group.column(k).path_in_schema: group.column(k) for k in range(group.num_columns)}
    assert about["image"].compression == "UNCOMPRESSED" and "RLE_DICTIONARY" not in about["image"].encodings
    assert about["id"].compression == "ZSTD"


def test_bad_folders(plan, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="a file is in the way"):
        Store(tmp_path / "file" / "run", items(2))
    with pytest.raises(UsageError, match="`unit` must be at least 1, but got 0"):
        Store(tmp_path / "run", items(2), unit=0)
    folder = Store(tmp_path / "run", items(2))
    run(plan, folder, quiet=True)
    part = folder.parts(plan, 0, 0)[0]
    part.write_bytes(part.read_bytes()[:50])
    with pytest.raises(OutputError, match=rf"The file {part} of an earlier run cannot be read .*; remove it\."):
        folder.results(plan, 0, 0)
