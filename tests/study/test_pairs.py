from __future__ import annotations

import shutil
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from tests.study.turntables import NAMES, write_study
from vfusion3d.errors import UsageError
from vfusion3d.study import Pair, Study, find_pairs
from vfusion3d.study.pairs import broken_video, read_frames

METHODS = ("ours", "theirs")


def many(count: int) -> Study:
    pairs = [Pair(f"i{number:02}", Path(f"{number}.png"), Path("a.mp4"), Path("b.mp4")) for number in range(count)]
    return Study(pairs, METHODS, checks=4 if count > 4 else 0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path, Path]:
    return write_study(tmp_path_factory.mktemp("study"))


@pytest.fixture
def copies(folders, tmp_path) -> tuple[Path, Path, Path]:
    shutil.copytree(folders[0].parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / "ours", tmp_path / "theirs", tmp_path / "pictures"


def test_files_and_result_folders_match_by_name(copies):
    ours, theirs, pictures = copies
    assert [pair.name for pair in find_pairs(*copies)] == sorted(NAMES)
    for name in NAMES:  # as `vfusion3d reconstruct` writes them
        (ours / name).mkdir()
        (ours / f"{name}.mp4").rename(ours / name / "turntable.mp4")
        shutil.copy(pictures / f"{name}.png", ours / name / "input.png")
        Image.new("RGB", (8, 8)).save(ours / name / "views.png")
    (theirs / ".cup.mp4").write_bytes(b"hidden")
    (theirs / "notes.txt").write_text("no video")
    [cup, *_] = pairs = find_pairs(ours, theirs, ours)
    assert (cup.a, cup.b, cup.picture) == (ours / "cup/turntable.mp4", theirs / "cup.mp4", ours / "cup/input.png")
    assert [pair.name for pair in pairs] == sorted(NAMES)


def test_what_does_not_match(copies):
    ours, theirs, pictures = copies
    (theirs / "owl.mp4").rename(theirs / "owl.bak")
    with pytest.raises(UsageError, match=r"There is no video of 'owl' in .*theirs, but .*owl\.mp4 is there"):
        find_pairs(*copies)
    (theirs / "owl.bak").rename(theirs / "owl.mp4")
    (pictures / "cup.png").rename(pictures / "cap.png")
    with pytest.raises(UsageError, match=r"There is no video of 'cap' in .*ours, but .*cap\.png is there"):
        find_pairs(*copies)
    (pictures / "cap.png").rename(pictures / "cup.png")
    (ours / "cup.webm").write_bytes(b"\x1aE\xdf\xa3")
    with pytest.raises(UsageError, match="The name 'cup' is there twice"):
        find_pairs(*copies)
    (ours / "cup.webm").unlink()
    (ours / "cup.mp4").write_bytes(b"")
    with pytest.raises(UsageError, match=r"cup\.mp4 is damaged: it is no MP4 file"):
        find_pairs(*copies)
    with pytest.raises(UsageError, match=r"pictures holds no videos: neither NAME\.mp4"):
        find_pairs(pictures, theirs, pictures)
    with pytest.raises(UsageError, match="absent does not exist"):
        find_pairs(ours, ours.parent / "absent", pictures)


def test_studies_that_cannot_be(folders):
    pairs = find_pairs(*folders)
    with pytest.raises(UsageError, match="Both methods are named 'ours'"):
        Study(pairs, ("ours", "ours"))
    with pytest.raises(UsageError, match="--checks must be between 0 and 4 for 4 pairs, but got 5"):
        Study(pairs, METHODS, checks=5)
    with pytest.raises(UsageError, match="between 0 and 0 for 1 pairs"):
        Study(pairs[:1], METHODS, checks=1)


def test_order_and_sides_are_balanced_and_the_raters_own():
    study = many(65)
    firsts, lefts = set(), np.zeros(65)
    for number in range(200):
        schedule = study.schedule(f"rater {number}")
        assert sorted(shown.trial.number for shown in schedule) == list(range(69))
        assert schedule == many(65).schedule(f"rater {number}")
        pairs = [shown for shown in schedule if not shown.trial.is_check]
        assert sum(shown.flipped for shown in pairs) in (32, 33)
        assert sum(shown.flipped for shown in schedule if shown.trial.is_check) == 2
        firsts.add(schedule[0].trial.number)
        for shown in pairs:
            lefts[shown.trial.number] += not shown.flipped
    assert len(firsts) > 50
    assert lefts.min() > 70 and lefts.max() < 130  # of 200: within 4.3 standard deviations of one half
    assert 0.45 < lefts.mean() / 200 < 0.55
    assert study.schedule("anna") != Study(study.pairs, METHODS, checks=4, seed=1).schedule("anna")


def test_each_side_shows_its_file_and_checks_break_one(folders):
    pairs = find_pairs(*folders)
    study = Study(pairs, METHODS, checks=3)
    assert sum(trial.is_check for trial in study.trials) == 3
    for shown in study.schedule("anna"):
        pair = next(pair for pair in pairs if pair.name == shown.trial.name)
        assert study.media(shown, "input") == (pair.picture.read_bytes(), "image/png")
        first, second = (
            study.media(shown, side) for side in (("right", "left") if shown.flipped else ("left", "right"))
        )
        assert first[1] == second[1] == "video/mp4"
        if shown.trial.is_check:
            assert first[0] in (pair.a.read_bytes(), pair.b.read_bytes())
            assert second[0] in study.wrong_videos
        else:
            assert (first[0], second[0]) == (pair.a.read_bytes(), pair.b.read_bytes())
    assert len(set(study.wrong_videos)) == 3


def test_a_broken_video_is_unlike_its_source(folders, tmp_path):
    source = folders[0] / "cup.mp4"
    (tmp_path / "broken.mp4").write_bytes(broken_video(source, seed=0))
    frames, seconds = read_frames(tmp_path / "broken.mp4")
    before, length = read_frames(source)
    assert frames.shape == before.shape == (6, 32, 32, 3) and abs(seconds - length) < 0.1
    assert np.abs(frames.astype(float) - before).mean() > 20
    (tmp_path / "cut.mp4").write_bytes(source.read_bytes()[:400])
    with pytest.raises(UsageError, match=r"cut\.mp4 cannot be decoded"):
        read_frames(tmp_path / "cut.mp4")
    assert imageio_ffmpeg.count_frames_and_secs(str(source))[0] == 6


def test_votes_are_of_these_very_files(copies):
    def digest(checks: int = 3, seed: int = 0) -> str:
        return Study(find_pairs(*copies), METHODS, checks, seed).design.digest

    before = digest()
    assert before == digest() and len({before, digest(checks=2), digest(seed=1)}) == 3
    shutil.copy(copies[0] / "cup.mp4", copies[1] / "cup.mp4")
    assert digest() != before
