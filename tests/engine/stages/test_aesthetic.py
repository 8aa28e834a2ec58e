from __future__ import annotations

import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel

from tests.video.diffusers_folders import CLIP
from vfusion3d.engine import AestheticScore
from vfusion3d.engine.stages.pictures import encode_frames
from vfusion3d.errors import CheckpointError
from vfusion3d.video.encoders import CLIP_MEAN, CLIP_STD

SIZES, WIDTH = (1024, 128, 64, 16, 1), CLIP["projection_dim"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    vision, text = {**CLIP, "image_size": 32, "patch_size": 16}, {**CLIP, "vocab_size": 54}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH)).eval()
    folder = tmp_path_factory.mktemp("clip")
    model.save_pretrained(folder)
    return folder, model


def published(width: int = WIDTH) -> dict[str, torch.Tensor]:
    """Weights under the names of the published file, whose numbers count dropout layers too."""
    state, before = {}, width
    for number, size in zip((0, 2, 4, 6, 7), SIZES, strict=True):
        state[f"layers.{number}.weight"] = torch.randn(size, before) / before**0.5
        state[f"layers.{number}.bias"], before = torch.randn(size), size
    return state


def test_the_score_is_the_mean_features(clip, tmp_path):
    folder, model = clip
    state, frames = published(), torch.rand(3, 3, 32, 32)
    save_file(state, tmp_path / "mlp.safetensors")
    batch = pa.table({"id": ["a", "b"], "frames": [encode_frames(frames), encode_frames(frames[:1])]})
    rows = AestheticScore(tmp_path / "mlp.safetensors", str(folder), "cpu")(batch).to_pylist()
    pixels = (frames * 255).round() / 255
    pixels = (pixels - torch.tensor(CLIP_MEAN).view(-1, 1, 1)) / torch.tensor(CLIP_STD).view(-1, 1, 1)
    with torch.no_grad():
        features = model.get_image_features(pixels).pooler_output
    feature = F.normalize(F.normalize(features, dim=-1).mean(0), dim=0)
    for number in (0, 2, 4, 6, 7):
        feature = state[f"layers.{number}.weight"] @ feature + state[f"layers.{number}.bias"]
    assert rows[0]["aesthetic"] == pytest.approx(float(feature), rel=1e-4)
    assert abs(rows[0]["aesthetic"] - rows[1]["aesthetic"]) > 1e-4


def test_without_weights_there_is_no_score(caplog):
    rows = AestheticScore()(pa.table({"id": ["a"], "frames": [[b""]]})).to_pylist()
    assert rows[0]["aesthetic"] is None and rows[0]["error"] is None and "no aesthetic score without" in caplog.text


def test_other_weights_are_refused(clip, tmp_path):
    folder, path = clip[0], tmp_path / "mlp.safetensors"
    with pytest.raises(CheckpointError, match=r"mlp\.safetensors are not there"):
        AestheticScore(path)
    with pytest.raises(CheckpointError, match="are pickled, which could run code: convert them once"):
        AestheticScore(tmp_path / "sac+logos+ava1-l14-linearMSE.pth")
    save_file({"layers.0.weight": torch.zeros(4, WIDTH)}, path)
    with pytest.raises(CheckpointError, match="are not the predictor's linear layers 768-1024-128-64-16-1"):
        AestheticScore(path)
    save_file(published(768), path)
    with pytest.raises(CheckpointError, match=r"read features of 768 numbers, but .* makes 32; give the CLIP model"):
        AestheticScore(path, str(folder), "cpu").load()
