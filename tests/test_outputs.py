import os
import stat
import sys

import pytest

from vfusion3d.errors import InputImageError, OutputError
from vfusion3d.outputs import make_folder, result_folder, say, write_atomically


def write_result(path, text="new", overwrite=False):
    with result_folder(path, overwrite) as partial:
        (partial / "report.json").write_text(text)


def test_a_folder_appears_complete(tmp_path):
    with result_folder(tmp_path / "deep" / "a") as partial:
        (partial / "report.json").write_text("{}")
        assert not (tmp_path / "deep" / "a").exists()
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a"]
    mode = stat.S_IMODE((tmp_path / "deep" / "a").stat().st_mode)
    assert mode == stat.S_IMODE((tmp_path / "deep").stat().st_mode)  # not the private mode of a temporary folder


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), InputImageError("bad."), RuntimeError("bug")])
def test_nothing_is_left_when_the_block_raises(tmp_path, stop):
    with pytest.raises(type(stop)), result_folder(tmp_path / "a") as partial:
        (partial / "half").write_text("half")
        raise stop
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "words"),
    [(28, "the disk is full"), (13, "not permitted"), (30, "not permitted"), (5, "Input/output error")],
)
def test_errors_of_the_system_are_one_sentence(tmp_path, number, words):
    with pytest.raises(OutputError, match=words) as caught, result_folder(tmp_path / "a"):
        raise OSError(number, os.strerror(number))
    assert str(caught.value).startswith(f"Output '{tmp_path / 'a'}' cannot be written: ")
    assert list(tmp_path.iterdir()) == []


def test_the_sentence_names_the_folder_and_not_the_temporary_one(tmp_path, monkeypatch):
    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="the disk is full") as caught, result_folder(tmp_path / "a") as partial:
        write_atomically(partial / "mesh.glb", b"mesh")
    assert "partial" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_result_is_kept_unless_overwritten(tmp_path):
    write_result(tmp_path / "a", "old")
    with pytest.raises(OutputError, match="already exists"):
        write_result(tmp_path / "a")
    assert (tmp_path / "a" / "report.json").read_text() == "old"
    write_result(tmp_path / "a", overwrite=True)
    assert (tmp_path / "a" / "report.json").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_failed_overwrite_keeps_the_earlier_result(tmp_path):
    write_result(tmp_path / "a", "old")
    with pytest.raises(RuntimeError), result_folder(tmp_path / "a", overwrite=True):
        raise RuntimeError
    assert (tmp_path / "a" / "report.json").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_other_people_s_folders_are_never_replaced(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "holiday.jpg").write_text("precious")
    with pytest.raises(OutputError, match=r"holds no report.json"):
        write_result(tmp_path / "a", overwrite=True)
    assert (tmp_path / "a" / "holiday.jpg").exists()


def test_an_empty_folder_is_used(tmp_path):
    (tmp_path / "a").mkdir()
    write_result(tmp_path / "a")
    assert (tmp_path / "a" / "report.json").exists()


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file, not a folder"):
        write_result(tmp_path / "file")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match="a file is in the way"):
            make_folder(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="not permitted"):
        make_folder(tmp_path)


def test_a_folder_that_refuses_files(tmp_path, monkeypatch):
    def refuse(**options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(OutputError, match="not permitted"):
        make_folder(tmp_path / "a")


def test_files_are_replaced_whole(tmp_path):
    write_atomically(tmp_path / "a.bin", b"one")
    write_atomically(tmp_path / "a.bin", b"two")
    assert (tmp_path / "a.bin").read_bytes() == b"two" and len(list(tmp_path.iterdir())) == 1


def test_results_that_cannot_be_said(monkeypatch, capsys):
    say("first")
    assert capsys.readouterr().out == "first\n"

    class Full:
        def write(self, text):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    with pytest.raises(OutputError, match=r"Standard output cannot be written \(No space left on device\)"):
        say("second")
    say("third")  # goes nowhere, like what Python writes at its exit
