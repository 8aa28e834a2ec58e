"""From videos by way of labels to a filter, and from renders to an elevation model, as a user does it."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.engine import disc_orbits
from vfusion3d import ReconstructorConfig, TriplaneReconstructor
from vfusion3d.cli import main
from vfusion3d.engine import QualityClassifier, VideoFeatures
from vfusion3d.engine.learning.labels import LabelFile
from vfusion3d.engine.learning.videos import open_videos
from vfusion3d.preprocessing import ElevationEstimator, ElevationRegressor, centre_picture


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("learned") / "set"
    good = disc_orbits.shard_set(folder, 36)
    for name in ("anna", "ben"):
        labels = LabelFile(folder / "labels", name)
        for number, (video, is_good) in enumerate(good.items()):
            wrong = name == "ben" and number == 5
            labels.add(video, "skip" if number == 7 else "good" if is_good != wrong else "bad")
    return folder


def test_labels_become_a_filter(labelled, tmp_path, capsys):
    arguments = ["train-quality", str(labelled), "--output", str(tmp_path / "out"), "--features", "pixels", "--spread"]
    assert main([*arguments, "--keep-rate", "0.6", "--penalty", "10", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["videos"] == 34 and report["disputed"] == 1 and report["left_out"] == 0
    assert report["roc_auc"] > 0.9 and report["at_keep_rate"]["precision"] > 0.8
    assert abs(report["at_keep_rate"]["keep_rate"] - 0.6) < 0.03
    assert report["categories"]["vehicle"]["count"] + report["categories"]["other"]["count"] == 34
    assert report["agreement"] == ["anna and ben agree on 34 of 35 videos (97.1%), Cohen's kappa 0.94."]
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"calibration.png", "keep_rate.png", "quality.json", "quality.safetensors", "features"}
    trained = QualityClassifier.load(tmp_path / "out")
    assert trained.threshold == report["at_keep_rate"]["threshold"]
    assert main(arguments) == 2 and "holds a quality.json already" in capsys.readouterr().err
    parts = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "features").rglob("*.parquet")}
    assert main([*arguments, "--overwrite"]) == 0  # from the features that are there
    assert parts == {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "features").rglob("*.parquet")}
    assert "keep videos with the condition `quality >=" in capsys.readouterr().out


@pytest.mark.slow
def test_renders_become_an_elevation_model(labelled, tmp_path, capsys):
    arguments = ["train-elevation", str(labelled), "--output", str(tmp_path), "--features", "pixels", "--steps", "150"]
    assert main([*arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    for kind in ("video", "picture"):
        assert report[kind]["mean"] < 0.4 * report[kind]["mean_of_constant"]
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {"elevation.json", "elevation.safetensors", "features", "picture.png", "video.png"}
    model = ElevationRegressor.load(tmp_path)
    videos = open_videos(labelled)
    stage = VideoFeatures("pixels")
    stage.load()
    rows = stage.process([{"frames": videos.frames(video)} for video in videos.ids[:4]])
    said = model.predict(np.array([row["elevation_features"] for row in rows]))
    true = [float(videos.cameras(video).elevations[0]) for video in videos.ids[:4]]
    assert np.degrees(np.abs(said - true)).max() < 8
    estimator = ElevationEstimator(tmp_path)
    said, true = [], []
    for video in videos.ids[:12]:
        picture = Image.open(io.BytesIO(videos.frames(video)[0])).resize((96, 96))
        said.append(estimator(picture))
        true.append(math.degrees(videos.cameras(video).elevations[0]))
    assert np.corrcoef(said, true)[0, 1] > 0.8


def test_reconstruct_asks_the_elevation_model(labelled, tmp_path, capsys):
    arguments = ["train-elevation", str(labelled), "--output", str(tmp_path / "elevation"), "--features", "pixels"]
    assert main([*arguments, "--steps", "50", "--for", "picture"]) == 0
    TriplaneReconstructor(ReconstructorConfig.preset("tiny", iso_threshold=0.5)).save_pretrained(tmp_path / "model")
    picture = tmp_path / "disc.png"
    picture.write_bytes(open_videos(labelled).frames("disc_001")[0])
    fast = ["--formats", "mp4", "--frames", "1", "--render-size", "16", "--model", str(tmp_path / "model")]
    arguments = ["reconstruct", str(picture), "--output", str(tmp_path / "out"), "--elevation", "auto", *fast]
    capsys.readouterr()
    assert main([*arguments, "--elevation-model", str(tmp_path / "elevation"), "--json"]) == 0
    [report] = json.loads(capsys.readouterr().out)["results"]
    cutout = centre_picture(picture, ReconstructorConfig.preset("tiny").image_size).image()
    expected = ElevationEstimator(tmp_path / "elevation")(cutout)
    assert report["settings"]["elevation"] == "auto"
    assert report["estimated_elevation"] == pytest.approx(expected, abs=0.01)
    assert main(arguments) == 2
    assert "Options --elevation auto and --elevation-model go together" in capsys.readouterr().err
    assert main([*arguments[:4], "--elevation", "high", *fast]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["label", "{set}"], "Option --name is missing"),
        (["label", "{set}", "--name", "a/b"], "The name 'a/b' cannot be used"),
        (["label", "{tmp}", "--name", "anna"], "holds no videos"),
        (["label", "{tmp}/nothing", "--name", "anna"], "does not exist"),
        (["train-quality", "{set}", "--output", "{tmp}/a", "--labels", "{tmp}"], "There are no labels in"),
        (["train-quality", "{set}", "--output", "{tmp}/a", "--keep-rate", "1.5"], "Option --keep-rate must be in"),
        (["train-quality", "{set}", "--output", "{tmp}/a", "--features", "no model"], "There is no feature model"),
        (["train-elevation", "{set}", "--output", "{tmp}/a", "--features", "a/b"], "is not on this machine"),
    ],
)
def test_bad_input(labelled, tmp_path, capsys, arguments, sentence):
    (tmp_path / "empty").mkdir()
    assert main([one.format(set=labelled, tmp=tmp_path) for one in arguments]) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1
    assert not (tmp_path / "a").exists()
