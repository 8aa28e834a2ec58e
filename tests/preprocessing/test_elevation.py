from __future__ import annotations

import json
import math

import numpy as np
import pytest

from vfusion3d.errors import CheckpointError, UsageError
from vfusion3d.preprocessing import ElevationEstimator, ElevationRegressor, train_elevation

HIGHEST = math.pi / 4


def known(count=200, width=6):
    random = np.random.default_rng(0)
    features = random.normal(size=(count, width)).astype(np.float32)
    return features, (HIGHEST * 0.5 * (1 + np.tanh(features[:, 0] + 0.5 * features[:, 1] ** 2 - 0.5))).clip(0, HIGHEST)


def test_what_was_learned_is_saved(tmp_path):
    features, elevations = known()
    model = train_elevation(features[:150], elevations[:150], "pixels:1", hidden=64, steps=600)
    said = model.predict(features[150:])
    assert said.min() >= 0 and said.max() <= HIGHEST
    errors, constant = np.abs(said - elevations[150:]), np.abs(elevations[150:] - elevations.mean())
    assert errors.mean() < 0.4 * constant.mean()
    model.save(tmp_path)
    loaded = ElevationRegressor.load(tmp_path)
    assert np.array_equal(loaded.predict(features), model.predict(features)) and loaded.features == "pixels:1"
    again = train_elevation(features[:150], elevations[:150], "pixels:1", hidden=64, steps=600)
    assert np.array_equal(again.predict(features), model.predict(features))


def test_what_does_not_fit(tmp_path):
    features, elevations = known(10)
    model = train_elevation(features, elevations, "pixels:1", hidden=4, steps=1)
    with pytest.raises(UsageError, match="trained on features of a video, not of a picture"):
        model.predict(features, "picture")
    with pytest.raises(UsageError, match="vectors of 6 numbers, but got 5"):
        model.predict(features[:, :5])
    with pytest.raises(UsageError, match="NaN or infinite"):
        train_elevation(features * np.nan, elevations, "pixels:1")
    with pytest.raises(CheckpointError, match=r"elevation\.json is not there: give a folder"):
        ElevationRegressor.load(tmp_path)
    model.save(tmp_path)
    with pytest.raises(UsageError, match="not of a picture"):
        ElevationEstimator(tmp_path)
    document = json.loads((tmp_path / "elevation.json").read_text())
    for changed, sentence in (
        ({"version": 2}, "of another version"),
        ({"kinds": ["picture"], "features": "pixels:0"}, r"other features \(pixels:0\) than these \(pixels:1\)"),
        ({"kinds": ["picture"], "model": "./gone"}, "needs the features that it was trained on: There is no feature"),
    ):
        (tmp_path / "elevation.json").write_text(json.dumps({**document, **changed}))
        with pytest.raises((CheckpointError, UsageError), match=sentence):
            ElevationEstimator(tmp_path)
