from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from vfusion3d.engine import QualityClassifier, QualityScore, VideoFeatures
from vfusion3d.engine.stages.quality import threshold_for
from vfusion3d.errors import CheckpointError, UsageError

TAG = "pixels:1"


def two_clouds(count=60, width=12, seed=0):
    random = np.random.default_rng(seed)
    good = random.random(count) < 0.6
    return random.normal(size=(count, width)) * np.linspace(0.1, 30, width) + good[:, None] * 2.0, good


def test_decision_values_are_those_of_scikit_learn(tmp_path):
    features, good = two_clouds()
    new, _ = two_clouds(seed=1)
    scaler = StandardScaler().fit(features)
    svm = SVC(kernel="rbf", gamma="scale", C=2.0, class_weight="balanced").fit(scaler.transform(features), good)
    expected = svm.decision_function(scaler.transform(new))
    QualityClassifier.train(features, good, TAG, penalty=2.0).save(tmp_path)
    loaded = QualityClassifier.load(tmp_path)
    assert np.abs(loaded.decision(new) - expected).max() < 1e-6
    assert np.ptp(expected) > 0.5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["quality.json", "quality.safetensors"]


def test_threshold_keeps_the_wanted_share():
    values = np.random.default_rng(0).normal(size=200)
    for rate in (0.01, 0.5, 0.675, 1.0):
        assert (values >= threshold_for(values, rate)).mean() == rate
    with pytest.raises(UsageError, match=r"must be in \(0, 1\], but got 0"):
        threshold_for(values, 0)


def videos(count=6, frames=16, size=24):
    random = np.random.default_rng(0)

    def picture():
        file = io.BytesIO()
        Image.fromarray(random.integers(0, 255, (size, size, 3), np.uint8)).save(file, "PNG")
        return file.getvalue()

    rows = [[picture() for _ in range(frames)] for _ in range(count)]
    return pa.table({"id": [f"v{k}" for k in range(count)], "frames": rows})


def test_stages_judge_and_refuse_other_features(tmp_path):
    table = VideoFeatures("pixels")(videos())
    features = np.array(table["quality_features"].to_pylist())
    good = np.array([True, False] * 3)
    trained = QualityClassifier.train(features, good, table["features"][0].as_py())
    trained.save(tmp_path)
    scores = np.array(QualityScore(str(tmp_path))(table)["quality"].to_pylist())
    assert np.abs(scores - trained.decision(features)).max() < 1e-6 and ((scores > 0) == good).all()
    document = json.loads((tmp_path / "quality.json").read_text())
    (tmp_path / "quality.json").write_text(json.dumps({**document, "features": "dino:0123:224"}))
    with pytest.raises(UsageError, match=r"trained on other features \(dino:0123:224\) than these \(pixels:1\)"):
        QualityScore(str(tmp_path))(table)
    (tmp_path / "quality.safetensors").write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match="cannot be read"):
        QualityScore(str(tmp_path))


def test_labels_that_cannot_be_trained_on():
    features, good = two_clouds()
    with pytest.raises(UsageError, match="at least two good and two bad videos, but there are 60 good and 0 bad"):
        QualityClassifier.train(features, np.ones(60, bool), TAG)
    with pytest.raises(UsageError, match="vectors of 12 numbers, but got 3"):
        QualityClassifier.train(features, good, TAG).decision(features[:, :3])
