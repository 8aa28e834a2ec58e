from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel

from tests.engine.tiny_language import write_clip
from vfusion3d.errors import CheckpointError, MissingExtraError, MissingWeightsError
from vfusion3d.metrics import ClipNetwork, ClipSimilarity, clip_similarity

TEXTS = ["a red chair", "two dogs"]
SIZES = [(40, 40), (36, 51), (50, 16), (10, 12)]

open_clip = pytest.mark.skipif(importlib.util.find_spec("open_clip") is None, reason="needs open_clip")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def network(folder) -> ClipNetwork:
    return ClipNetwork(str(folder))


def smooth(*shape: int) -> torch.Tensor:
    """Pictures whose neighbouring pixels are alike, of whole 255ths."""
    coarse = torch.rand(*shape[:-2], 5, 5).flatten(0, -4)
    fine = F.interpolate(coarse, shape[-2:], mode="bilinear").view(shape)
    return (fine * 255).round() / 255


def as_pil(pictures: torch.Tensor) -> list[Image.Image]:
    return [Image.fromarray(p) for p in (pictures * 255).round().byte().movedim(-3, -1).numpy()]


def official(folder, pictures: torch.Tensor) -> torch.Tensor:
    """Unit vectors, all by transformers."""
    model = CLIPModel.from_pretrained(folder).eval()
    pixels = CLIPImageProcessor.from_pretrained(folder)(as_pil(pictures), return_tensors="pt").pixel_values
    with torch.no_grad():
        return F.normalize(model.visual_projection(model.vision_model(pixels).pooler_output), dim=-1)


def official_texts(folder, texts: list[str]) -> torch.Tensor:
    model, tokenizer = CLIPModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        out = model.text_model(**tokenizer(texts, padding=True, return_tensors="pt")).pooler_output
        return F.normalize(model.text_projection(out), dim=-1)


# -- as transformers ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", SIZES)
def test_pictures_are_prepared_as_by_the_official_processor(size, network, folder):
    pictures = smooth(4, 3, *size)
    processor = CLIPImageProcessor.from_pretrained(folder)
    wanted = processor(as_pil(pictures), return_tensors="pt").pixel_values
    ours = network.preprocess(pictures)
    torch.testing.assert_close(ours, wanted, atol=2e-2, rtol=0)  # of a standard deviation: it rounds to 255ths
    cosines = (network.embed_pictures(pictures) * official(folder, pictures)).sum(-1)
    assert (cosines > 1 - 1e-2).all()


@pytest.mark.parametrize("size", SIZES)
def test_pictures_are_resized_as_by_pillow(size, network):
    pictures = smooth(1, 3, *size)
    edge = 16
    longer = [edge * side // min(size) for side in size]
    resized = np.asarray(as_pil(pictures)[0].resize(longer[::-1], Image.Resampling.BICUBIC), np.float32) / 255
    top, left = (longer[0] - edge) // 2, (longer[1] - edge) // 2
    wanted = torch.from_numpy(resized[top : top + edge, left : left + edge].copy()).movedim(-1, 0)
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (network.preprocess.mean, network.preprocess.std))
    assert ((network.preprocess(pictures)[0] * std + mean) - wanted).abs().max() < 6e-3  # 1.5 of 255


def test_similarities_are_those_of_transformers(network, folder):
    pictures = smooth(2, 3, 3, 40, 40)
    views = official(folder, pictures.flatten(0, 1)).unflatten(0, (2, 3))
    texts = official_texts(folder, TEXTS)
    ours = clip_similarity(pictures, TEXTS, network)
    torch.testing.assert_close(ours, torch.einsum("bvd,bd->bv", views, texts), atol=1e-2, rtol=0)
    assert ours.abs().max() <= 1  # no factor
    inputs = smooth(2, 3, 24, 24)
    wanted = torch.einsum("bvd,bd->bv", views, official(folder, inputs))
    torch.testing.assert_close(clip_similarity(pictures, inputs, network), wanted, atol=1e-2, rtol=0)
    torch.testing.assert_close(clip_similarity(pictures, pictures, network), torch.ones(2, 3))
    assert clip_similarity(pictures[:, 0], TEXTS, network).shape == (2,)


def test_many_and_long(network):
    pictures = smooth(40, 3, 20, 20)
    texts = [f"chair {k}" for k in range(39)] + ["a red chair " * 100]  # more than the model reads
    whole = clip_similarity(pictures, texts, network)
    torch.testing.assert_close(clip_similarity(pictures[35:], texts[35:], network), whole[35:], atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision(kind, network, folder):
    pictures = smooth(2, 3, 40, 40)
    halved = clip_similarity(pictures.to(kind), TEXTS, ClipNetwork(str(folder), dtype=kind))
    assert halved.dtype == torch.float32
    exact = clip_similarity(pictures, TEXTS, network)
    torch.testing.assert_close(halved, exact, atol=3e-2, rtol=0)
    with torch.autocast("cpu", dtype=kind):  # as in a validation step: only the dtype of the weights counts
        assert torch.equal(clip_similarity(pictures, TEXTS, network), exact)


# -- metric ------------------------------------------------------------------------------------------------------
def test_similarities_are_averaged_over_views_then_objects(network):
    pictures = smooth(2, 3, 3, 40, 40)
    metric = ClipSimilarity(network)
    metric.update(pictures, TEXTS, torch.tensor([1, 0]))
    metric.update(pictures[:1], TEXTS[:1], torch.tensor([1]))  # from another process
    expected = clip_similarity(pictures, TEXTS, network)
    assert float(metric.compute()["clip_similarity"]) == pytest.approx(float(expected.mean()), abs=1e-6)
    of_mean = F.normalize(network.embed_pictures(pictures).mean(1), dim=-1) * network.embed_texts(TEXTS)
    assert abs(float(of_mean.sum(-1).mean() - expected.mean())) > 1e-4
    assert not metric.state_dict() and not list(metric.parameters())


# -- what cannot be used -----------------------------------------------------------------------------------------
def test_bad_pictures_and_references(network):
    picture = smooth(1, 3, 20, 20)
    for bad, said in (
        ((picture * 255).byte(), "floating type"),
        (picture[:, :1], "RGB pictures"),
        (picture * torch.nan, "NaN or infinite"),
    ):
        with pytest.raises(ValueError, match=said):
            clip_similarity(bad, TEXTS[:1], network)
    for references in (TEXTS, "a red chair", smooth(2, 3, 20, 20)):
        with pytest.raises(ValueError, match="`references` must hold one for each of 1 objects"):
            clip_similarity(picture, references, network)


def test_models_that_are_not_there(folder, tmp_path):
    with pytest.raises(MissingWeightsError, match=r"'owner/none' is not on this machine"):
        ClipNetwork("owner/none")
    with pytest.raises(CheckpointError, match=r"There is no folder '\./none'"):
        ClipNetwork("./none")
    for file in folder.iterdir():
        if not file.name.startswith("tokenizer"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(CheckpointError, match=r"no tokenizer and image processor.*no tokenizer.json"):
        ClipNetwork(str(tmp_path))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="holds no weights"):
        ClipNetwork(str(tmp_path))


def test_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vfusion3d\[clip\]'"):
        ClipNetwork("ViT-B-32", "openai")


# -- open_clip ---------------------------------------------------------------------------------------------------
@open_clip
def test_models_of_open_clip(tmp_path, monkeypatch):
    import open_clip
    from open_clip import factory

    tiny = {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 8},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
    }
    monkeypatch.setitem(factory._MODEL_CONFIGS, "tiny", tiny)
    torch.manual_seed(0)
    model, _, preprocess = open_clip.create_model_and_transforms("tiny")
    torch.save(model.state_dict(), tmp_path / "tiny.pt")
    network = ClipNetwork("tiny", tmp_path / "tiny.pt")
    pictures = smooth(2, 3, 40, 52)
    wanted = torch.stack([preprocess(picture) for picture in as_pil(pictures)])
    torch.testing.assert_close(network.preprocess(pictures), wanted, atol=2e-2, rtol=0)
    with torch.no_grad():
        views = F.normalize(model.eval().encode_image(wanted), dim=-1)
        texts = F.normalize(model.encode_text(open_clip.get_tokenizer("tiny")(TEXTS)), dim=-1)
    ours = clip_similarity(pictures, TEXTS, network)
    torch.testing.assert_close(ours, (views * texts).sum(-1), atol=1e-2, rtol=0)
    halved = ClipNetwork("tiny", tmp_path / "tiny.pt", dtype=torch.bfloat16)
    torch.testing.assert_close(clip_similarity(pictures, TEXTS, halved), ours, atol=3e-2, rtol=0)

    (tmp_path / "other.pt").write_text("no")
    with pytest.raises(CheckpointError, match="cannot be loaded as a checkpoint of open_clip's tiny"):
        ClipNetwork("tiny", tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="is neither a file nor a tag of open_clip's ViT-B-32, which are openai"):
        ClipNetwork("ViT-B-32", "none")
    with pytest.raises(CheckpointError, match="open_clip has no model 'ViT-B-33'"):
        ClipNetwork("ViT-B-33", "openai")


@open_clip
def test_weights_of_open_clip_that_are_not_there():
    with pytest.raises(MissingWeightsError, match=r"'openai' of open_clip's ViT-B-32 are not on this machine"):
        ClipNetwork("ViT-B-32", "openai")
