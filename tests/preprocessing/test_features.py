from __future__ import annotations

import json
import shutil

import pytest
import torch
from transformers import ViTConfig, ViTForImageClassification, ViTModel

from vfusion3d.errors import CheckpointError, UsageError
from vfusion3d.preprocessing.features import FeatureModel, PixelFeatures, check_tag, uniform_frames

TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dino")
    torch.manual_seed(0)
    ViTModel(ViTConfig(image_size=32, patch_size=8, **TINY)).save_pretrained(folder)  # with a pooler, which is not used
    return folder


def test_dino_features_are_the_class_token(dino):
    images = torch.rand(2, 3, 32, 32)
    reference = ViTModel.from_pretrained(dino).eval()
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    with torch.no_grad():
        expected = reference((images - mean) / std).last_hidden_state[:, 0]
    found = FeatureModel.find(str(dino))
    assert found.size == 32
    assert torch.allclose(found.load()(images), expected, atol=1e-5)
    larger = FeatureModel.find(str(dino), 48)
    other = larger.load()(images)
    assert other.shape == (2, 16) and larger.tag != found.tag and not torch.allclose(other, expected, atol=1e-3)
    with pytest.raises(UsageError, match="a multiple of 8, but got 36"):
        FeatureModel.find(str(dino), 36)


def test_a_tag_is_that_of_the_weights_wherever_they_are(dino, tmp_path):
    shutil.copytree(dino, tmp_path / "copy")
    tag = FeatureModel.find(str(dino)).tag
    assert FeatureModel.find(str(tmp_path / "copy")).tag == tag
    torch.manual_seed(1)
    model = ViTModel(ViTConfig(image_size=32, patch_size=8, **TINY))
    model.save_pretrained(tmp_path / "copy")
    other = FeatureModel.find(str(tmp_path / "copy")).tag
    assert other != tag
    with pytest.raises(UsageError, match=f"The filter was trained on other features .{tag}. than these .{other}."):
        check_tag("The filter", tag, other)
    # DINO's own release is a pickled file, which is read without running what is in it.
    (tmp_path / "copy" / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "copy" / "pytorch_model.bin")
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        expected = model.eval()((images - 0.5) / 0.5).last_hidden_state[:, 0]
    extractor = FeatureModel.find(str(tmp_path / "copy")).load()
    extractor.mean.fill_(0.5), extractor.std.fill_(0.5)
    assert torch.allclose(extractor(images), expected, atol=1e-5)


def test_what_is_no_feature_model(dino, tmp_path):
    for name, sentence in (
        ("nothing", "There is no feature model 'nothing': give 'pixels', a folder"),
        ("facebook/dino-vitb16", "is not on this machine and the Hugging Face hub cannot be reached"),
        (str(tmp_path), "holds no config.json"),
    ):
        with pytest.raises(CheckpointError, match=sentence):
            FeatureModel.find(name)
    shutil.copytree(dino, tmp_path / "bad")
    config = json.loads((dino / "config.json").read_text())
    for changed, sentence in (({"model_type": "bert"}, "is of a 'bert'"), ({"hidden_size": 24}, "do not fit its")):
        (tmp_path / "bad" / "config.json").write_text(json.dumps({**config, **changed}))
        with pytest.raises(CheckpointError, match=sentence):
            FeatureModel.find(str(tmp_path / "bad")).load()
    ViTForImageClassification(ViTConfig(image_size=32, patch_size=8, **TINY)).save_pretrained(tmp_path / "bad")
    with pytest.raises(CheckpointError, match="for example classifier"):
        FeatureModel.find(str(tmp_path / "bad")).load()
    (tmp_path / "bad" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="holds no weights"):
        FeatureModel.find(str(tmp_path / "bad"))


def test_pixel_features_see_colour_place_and_direction():
    extractor = PixelFeatures()
    white = torch.ones(1, 3, 40, 40)
    upright, lying, red = white.clone(), white.clone(), white.clone()
    upright[:, :, :, 18:22] = lying[:, :, 18:22] = red[:, 1:, :, 18:22] = 0
    features = [extractor(image)[0] for image in (white, upright, lying, red)]
    assert all(one.shape == (extractor.width,) for one in features) and features[0].abs().max() < 1e-3
    edges = [one[3 * 64 : 11 * 64].view(8, 64).sum(1) for one in features]
    assert edges[1].argmax() == 0 and edges[2].argmax() == 4  # gradients across, and down
    colours = [one[: 3 * 64].view(3, 64).sum(1) for one in features]
    assert colours[3][0] < 1e-3 and torch.allclose(colours[3][1:], colours[1][1:])
    assert uniform_frames(16, 8) == list(range(0, 16, 2)) and uniform_frames(16, 4) == [0, 4, 8, 12]
