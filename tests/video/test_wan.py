"""Wan: what its transformer is shown, views as clips of their own, low-rank training, full-size counts."""

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPVisionConfig, CLIPVisionModel, PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from vfusion3d.errors import CheckpointError, UsageError
from vfusion3d.video import (
    WanBackbone,
    choose_trainable,
    create_backbone,
    enable_checkpointing,
    set_attention,
    trainable_state,
)
from vfusion3d.video.codecs import PixelCodec
from vfusion3d.video.encoders import ByteText
from vfusion3d.video.generator import sample_latents
from vfusion3d.video.wan import _TINY
from vfusion3d.video.wan_parts import TEXT_TOKENS, WanCodec

FRAMES, SIDE = 3, 8


@pytest.fixture(scope="module")
def wan() -> WanBackbone:
    torch.manual_seed(0)
    return create_backbone("wan", "tiny", frames=FRAMES).eval()


def small_5b() -> WanBackbone:
    """The 5B's way of conditioning at the tiny size."""
    settings = {**_TINY, "in_channels": 12, "image_dim": None, "added_kv_proj_dim": None}
    return WanBackbone(WanTransformer3DModel(**settings), PixelCodec(), ByteText(16, 8), None, frames=FRAMES).eval()


class Shown:
    """Stands in for a denoiser's forward and keeps what it was given."""

    def __call__(self, sample, timesteps, text, image, return_dict):
        self.sample, self.timesteps, self.text, self.image = sample, timesteps, text, image
        return (sample[:, -12:],)


def shown_to(backbone: WanBackbone, monkeypatch) -> Shown:
    shown = Shown()
    monkeypatch.setattr(backbone.denoiser, "forward", shown)
    return shown


def test_the_first_frame_is_shown_beside_the_noise(wan, monkeypatch):
    shown = shown_to(wan, monkeypatch)
    images = torch.rand(2, 3, SIDE, SIDE)
    conditioning = wan.condition(images, ["a red cup", None])
    dropped = torch.tensor([False, True])
    conditioning = wan.dropped(conditioning, dropped, dropped)
    inputs = torch.randn(2, FRAMES, 12, SIDE // 2, SIDE // 2)
    wan(inputs, torch.tensor([300.0, 300.0]), conditioning)
    noisy, mask, first = shown.sample.split([12, 4, 12], 1)
    assert torch.equal(noisy, inputs.transpose(1, 2))
    assert bool((mask[0, :, 0] == 1).all()) and not mask[0, :, 1:].any() and not mask[1].any()
    torch.testing.assert_close(first[0, :, 0], wan.encode(images[:1, None].expand(1, FRAMES, 3, SIDE, SIDE))[0, 0])
    assert not first[0, :, 1:].any() and not first[1].any()  # grey is zero in the pixels' codec
    assert shown.image[0].any() and not shown.image[1].any()
    assert torch.equal(shown.text[1:], wan.text_encoder.null()) and not torch.equal(shown.text[0], shown.text[1])


def test_the_5b_reads_the_first_frame_in_place_of_noise(monkeypatch):
    backbone = small_5b()
    shown = shown_to(backbone, monkeypatch)
    video = torch.rand(2, FRAMES, 3, SIDE, SIDE)
    clean = backbone.encode(video)
    conditioning = backbone.condition(video[:, 0])
    dropped = torch.tensor([False, True])
    conditioning = backbone.dropped(conditioning, dropped, ~dropped)
    pair = backbone.process.pair(clean, torch.randn_like(clean), torch.tensor([0.4, 0.6]))
    raw = backbone(pair.inputs, pair.timesteps, conditioning)
    torch.testing.assert_close(shown.sample[0, :, 0], clean[0, 0])
    assert torch.equal(shown.sample[1], pair.inputs[1].transpose(0, 1))
    cells = (SIDE // 4) ** 2
    torch.testing.assert_close(shown.timesteps[0], torch.tensor([0.0] * cells + [400.0] * (2 * cells)))
    assert bool((shown.timesteps[1] == 600).all())
    torch.testing.assert_close(raw[0, 0], pair.target[0, 0], rtol=1e-4, atol=1e-5)  # nothing is asked of it there
    assert torch.equal(raw[:, 1:], shown.sample[:, :, 1:].transpose(1, 2))


@pytest.mark.parametrize("kind", ["beside", "in place"])
def test_low_rank_updates_train_and_it_samples(kind):
    torch.manual_seed(0)
    backbone = create_backbone("wan", "tiny", frames=FRAMES) if kind == "beside" else small_5b()
    before = {name: tensor.clone() for name, tensor in backbone.denoiser.state_dict().items()}
    report = choose_trainable(backbone, "lora", rank=2)
    enable_checkpointing(backbone)
    assert report.tensors == 2 * 2 * 8 == len(trainable_state(backbone))  # A and B of 8 projections in 2 blocks
    optimizer = torch.optim.Adam([p for p in backbone.parameters() if p.requires_grad], lr=1e-2)
    video = torch.rand(1, FRAMES, 3, SIDE, SIDE)
    conditioning = backbone.condition(video[:, 0], ["a cup"])
    clean = backbone.encode(video)
    pair = backbone.process.pair(clean, torch.randn_like(clean), torch.tensor([0.5]))
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = (backbone(pair.inputs, pair.timesteps, conditioning) - pair.target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    after = backbone.denoiser.state_dict()
    for name, tensor in before.items():
        module, _, kind_of = name.rpartition(".")
        assert torch.equal(after[name] if name in after else after[f"{module}.base_layer.{kind_of}"], tensor), name
    with torch.no_grad():
        latents = sample_latents(backbone, conditioning, torch.randn_like(clean), steps=2)
    assert latents.shape == clean.shape and bool(latents.isfinite().all())


def test_temporal_training_is_refused(wan):
    with pytest.raises(UsageError, match=r"No temporal layer of wan was matched.*train `all` or `lora`"):
        choose_trainable(wan, "temporal")


def test_attention_kernels_agree_and_stay_this_models_own(wan):
    other = small_5b()
    inputs = torch.randn(1, FRAMES, 12, SIDE // 2, SIDE // 2)
    conditioning = wan.condition(torch.rand(1, 3, SIDE, SIDE))
    results = {}
    for kind in ("math", "sdpa"):
        set_attention(wan, kind)
        with torch.no_grad():
            results[kind] = wan(inputs, torch.tensor([500.0]), conditioning)
        chosen = {processor._attention_backend.value for processor in wan.denoiser.attn_processors.values()}
        assert chosen == {"native" if kind == "sdpa" else "_native_math"}
    torch.testing.assert_close(results["math"], results["sdpa"], rtol=1e-4, atol=1e-5)
    from diffusers.models.attention_dispatch import _AttentionBackendRegistry

    assert _AttentionBackendRegistry.get_active_backend()[0].value == "native"
    assert all(processor._attention_backend is None for processor in other.denoiser.attn_processors.values())


def tiny_vae() -> AutoencoderKLWan:
    torch.manual_seed(0)
    return AutoencoderKLWan(
        base_dim=4, z_dim=12, dim_mult=[1, 2, 2], num_res_blocks=1, temperal_downsample=[True, True],
        latents_mean=[0.5] * 12, latents_std=[2.0] * 6 + [4.0] * 6,
    ).eval()  # fmt: skip


def test_every_view_is_a_clip_of_its_own():
    vae = tiny_vae()
    codec = WanCodec(vae)
    video = torch.rand(1, 5, 3, 8, 8)
    with torch.no_grad():
        squeezed = vae.encode(video.transpose(1, 2) * 2 - 1).latent_dist.mode()
        latents = codec.encode(video, chunk=2)
        alone = vae.encode(video[:, 3, :, None] * 2 - 1).latent_dist.mode()[:, :, 0]
        decoded = codec.decode(latents)
    assert squeezed.shape[2] == 2 and latents.shape == (1, 5, 12, 2, 2) and codec.factor == 4
    wanted = (alone - 0.5) / torch.tensor([2.0] * 6 + [4.0] * 6).view(12, 1, 1)
    torch.testing.assert_close(latents[:, 3], wanted, rtol=1e-4, atol=1e-5)
    assert decoded.shape == video.shape


def write_wan(folder: Path) -> Path:
    """A tiny model in the layout of Wan 2.1's."""
    torch.manual_seed(0)
    WanTransformer3DModel(**{**_TINY, "image_dim": 8}).save_pretrained(folder / "transformer")
    tiny_vae().save_pretrained(folder / "vae")
    sizes = {"num_layers": 2, "num_heads": 2, "d_kv": 8, "d_ff": 16}
    UMT5EncoderModel(UMT5Config(vocab_size=8, d_model=16, **sizes)).save_pretrained(folder / "text_encoder")
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2}
    CLIPVisionModel(CLIPVisionConfig(image_size=8, patch_size=4, **sizes)).save_pretrained(folder / "image_encoder")
    words = Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2, "a": 3, "red": 4, "cup": 5}, "<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(folder / "tokenizer")
    UniPCMultistepScheduler(use_flow_sigmas=True, flow_shift=5.0).save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text('{"_class_name": "WanImageToVideoPipeline"}')
    return folder


def test_it_loads_from_a_folder_in_diffusers_layout(tmp_path):
    folder = write_wan(tmp_path)
    backbone = create_backbone("wan", str(folder), frames=2)
    assert backbone.process.shift == 5 and backbone.reads_text and "Apache-2.0" in backbone.licence
    conditioning = backbone.condition(torch.rand(2, 3, 16, 16), ["a  red cup", None])
    assert conditioning.text.shape == (2, TEXT_TOKENS, 16) and conditioning.embedding.shape == (2, 5, 8)
    assert conditioning.text[0, :4].any(-1).all() and not conditioning.text[0, 4:].any()  # three words and the end
    assert not conditioning.text[1, 1:].any()
    halved = create_backbone("wan", str(folder), frames=2, half=True)
    assert halved.denoiser.dtype == halved.denoiser.blocks[0].attn1.to_q.weight.dtype == torch.bfloat16
    assert halved.denoiser.scale_shift_table.dtype == halved.codec.vae.dtype == torch.float32
    choose_trainable(halved, "lora", rank=2)
    assert {tensor.dtype for tensor in trainable_state(halved).values()} == {torch.float32}
    inputs, half = torch.randn(2, 2, 12, 4, 4), halved.condition(torch.rand(2, 3, 16, 16))
    raw = halved(inputs, torch.tensor([500.0, 500.0]), half)
    raw.float().square().mean().backward()
    with torch.no_grad():
        full = backbone(inputs, torch.tensor([500.0, 500.0]), half)
    torch.testing.assert_close(raw.float(), full, rtol=0.1, atol=0.1)

    (folder / "model_index.json").write_text('{"boundary_ratio": 0.9}')
    with pytest.raises(CheckpointError, match="two transformers, one for high and one for low noise"):
        create_backbone("wan", str(folder))


@pytest.mark.parametrize(
    ("preset", "everything", "low_rank"),
    [("released", 16_390_000_000, 209_715_200), ("released_5b", 5_000_000_000, 94_371_840)],
)
def test_full_size_counts(preset, everything, low_rank):
    with torch.device("meta"):
        backbone = create_backbone("wan", preset)
    count = sum(parameter.numel() for parameter in backbone.denoiser.parameters())
    assert count == pytest.approx(everything, rel=2e-3)
    with torch.device("meta"):
        report = choose_trainable(backbone, "lora", rank=64)
    assert report.parameters == low_rank


def test_what_does_not_fit_is_refused(wan):
    with pytest.raises(
        CheckpointError, match="needs 28 or 12 input and 12 output channels for latents of 12, but has 16"
    ):
        WanBackbone(WanTransformer3DModel(**{**_TINY, "in_channels": 16}), PixelCodec(), None, None)
    with pytest.raises(CheckpointError, match="takes CLIP's tokens of the picture: give an image encoder"):
        WanBackbone(WanTransformer3DModel(**_TINY), PixelCodec(), ByteText(16, TEXT_TOKENS), None)
    with pytest.raises(UsageError, match="multiples of 4 pixels, but got 6 x 8"):
        wan.condition(torch.rand(1, 3, 8, 6))
    textless = WanBackbone(wan.denoiser, wan.codec, None, wan.image_encoder)
    with pytest.raises(UsageError, match="has no text encoder"):
        textless.condition(torch.rand(1, 3, 8, 8), ["a cup"])
