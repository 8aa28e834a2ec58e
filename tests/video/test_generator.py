import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from tests.video.diffusers_folders import stirred
from vfusion3d.cameras import Rig, focal_from_fov
from vfusion3d.errors import CheckpointError, InputImageError, UsageError
from vfusion3d.preprocessing import EXTENT
from vfusion3d.video import Guidance, OrbitGenerator, create_backbone

FRAMES, SIDE = 4, 16
RIG = Rig(radius=3.0, fov=40.0, frames=FRAMES)


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(1)
    made = create_backbone("emu", "tiny", frames=FRAMES)
    stirred(made.denoiser)
    return made


def generator(backbone, **options) -> OrbitGenerator:
    return OrbitGenerator(backbone, RIG, SIDE, **{"steps": 2, **options})


def picture(*boxes, size=(120, 90)) -> Image.Image:
    drawn = Image.new("RGBA", size)  # transparent: no background to tell apart
    for box, colour in zip(boxes, ("red", "blue"), strict=False):
        ImageDraw.Draw(drawn).ellipse(box, fill=colour)
    return drawn


ONE, TWO = (40, 20, 80, 70), ((10, 20, 40, 70), (60, 20, 100, 70))


@pytest.mark.parametrize(("solver", "eta"), [("ddim", 0.0), ("ddim", 1.0), ("euler", 0.0), ("dpm", 0.0)])
def test_an_item_is_the_same_alone_and_in_a_batch(backbone, solver, eta):
    generate = generator(backbone, solver=solver, eta=eta, steps=3)
    first, second = torch.rand(2, 3, SIDE, SIDE)
    alone = generate(second, "a green frog", seed=7)
    batch = generate(torch.stack([first, second]), [None, "a green frog"], seed=[3, 7])
    assert alone.shape == (FRAMES, 3, SIDE, SIDE) and batch.shape == (2, *alone.shape)
    torch.testing.assert_close(batch[1], alone, rtol=1e-3, atol=2e-3)
    assert alone.isfinite().all() and alone.min() >= 0 and alone.max() <= 1
    assert (batch[0] - batch[1]).abs().mean() > 0.05


def test_the_seed_decides(backbone):
    generate, first = generator(backbone), torch.rand(3, SIDE, SIDE)
    one, same, other = (generate(first, seed=seed) for seed in (5, 5, 6))
    assert torch.equal(one, same) and (one - other).abs().mean() > 0.05
    done = []
    generate(first, seed=5, progress=lambda *counts: done.append(counts))
    assert done == [(1, 2), (2, 2)]


def test_pictures_fill_the_frame_as_renders_do(backbone, tmp_path):
    """A box of the mean extent in the middle of the rig's view, and no other part of it counts."""
    generate = OrbitGenerator(backbone, RIG, 128, steps=1)
    picture(ONE).save(tmp_path / "ball.png")
    prepared = generate.prepare(tmp_path / "ball.png")
    rows, columns = np.nonzero(prepared.rgba[3].numpy() > 0.5)
    share = focal_from_fov(RIG.fov) * EXTENT / RIG.radius
    assert (rows.max() + 1 - rows.min()) / 128 == pytest.approx(share, abs=0.03)
    assert (rows.max() + rows.min()) / 2 == pytest.approx(63.5, abs=1.5)
    assert (columns.max() + columns.min()) / 2 == pytest.approx(63.5, abs=1.5)
    assert prepared.on_white()[:, 0, 0].tolist() == [1.0, 1.0, 1.0]
    far = OrbitGenerator(backbone, Rig(6.0, 40.0, frames=FRAMES), 128, steps=1).prepare(picture(ONE))
    assert np.ptp(np.nonzero(far.rgba[3].numpy() > 0.5)[0]) == pytest.approx(share * 64, abs=3)


def test_files_pictures_and_prepared_ones_are_alike(backbone, tmp_path):
    generate = generator(backbone, steps=1)
    picture(ONE).save(tmp_path / "ball.png")
    from_file = generate(tmp_path / "ball.png")
    several = generate([picture(ONE), generate.prepare(picture(ONE)), generate.prepare(picture(ONE)).on_white()])
    for frames in several:
        torch.testing.assert_close(frames, from_file, rtol=1e-3, atol=2e-3)


def test_what_is_no_single_whole_object_is_refused(backbone):
    generate = generator(backbone, steps=1)
    cut = picture((40, 50, 80, 130))
    with pytest.raises(InputImageError, match=r"is cut off at the bottom edge; use a picture .* or take it as it is"):
        generate(cut)
    with pytest.raises(InputImageError, match=r"shows 2 separate objects; crop it to one of them, or .* `check=False`"):
        generate(picture(*TWO))
    assert generate([cut, picture(*TWO)], check=False).shape == (2, FRAMES, 3, SIDE, SIDE)


def test_models_that_are_told_cameras_are_told_the_rigs():
    torch.manual_seed(1)
    told = create_backbone("svd", "tiny", frames=FRAMES, camera_per_frame=True)
    stirred(told.denoiser)
    rig = Rig(3.0, 40.0, direction=-1, frames=FRAMES)
    seen = []
    told.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[2].cameras))
    generate = OrbitGenerator(told, rig, SIDE, steps=1, guidance=Guidance(image=1.0))
    level, raised = generate(torch.rand(3, SIDE, SIDE).expand(2, -1, -1, -1), elevation=[0.0, 30.0])
    [cameras] = seen
    expected = torch.stack([rig.cameras(math.radians(degrees)).vectors for degrees in (0.0, 30.0)])
    torch.testing.assert_close(cameras, expected)
    assert (level - raised).abs().max() > 1e-3


def test_half_precision_makes_nearly_the_same(tmp_path, monkeypatch, backbone):
    monkeypatch.setattr("vfusion3d.video.generator.create_backbone", lambda name, source: backbone)
    try:
        whole, half = (
            OrbitGenerator.from_pretrained("emu:tiny", precision=precision, size=SIDE, steps=1)
            for precision in (None, "bf16")
        )
        assert half.precision == "bf16" and half.about()["source"] == "emu:tiny"
        rough = half(torch.full((3, SIDE, SIDE), 0.5))
    finally:
        backbone.float()
    assert whole.precision == "fp32"
    fine = whole(torch.full((3, SIDE, SIDE), 0.5))
    assert not torch.equal(rough, fine) and (rough - fine).abs().mean() < 0.03


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 0}, "`steps` must be at least 1, but got 0"),
        ({"solver": "magic"}, "`solver` must be one of ddim, euler, dpm, but got 'magic'"),
        ({"eta": 2.0}, "`eta` must be between 0 and 1, but got 2.0"),
        ({"eta": 0.5, "solver": "euler"}, "`eta` goes with the solver ddim"),
        ({"together": 0}, "`together` must be at least 1, but got 0"),
        ({"size": 15}, "sides that are multiples of"),
        ({"rig": Rig(3.0, 40.0, frames=5)}, "makes 4 frames, but the rig has 5"),
    ],
)
def test_wrong_options(backbone, options, words):
    with pytest.raises(UsageError, match=words):
        OrbitGenerator(backbone, **{"rig": RIG, "size": SIDE, **options})


def test_wrong_input(backbone):
    generate = generator(backbone)
    for arguments, words in (
        ((torch.rand(4, SIDE, SIDE),), r"RGB of shape \[3, H, W\], but got the shape \[4, 16, 16\]"),
        (([],), "`pictures` is empty"),
        ((torch.rand(2, 3, SIDE, SIDE), ["a", "b", "c"]), "`text` must be one for all or one for each of 2, but has 3"),
        ((torch.rand(2, 3, SIDE, SIDE), None, [1]), "`seed` must be one for all or one for each of 2, but has 1"),
        ((torch.rand(3, 15, 15),), "multiples of"),
        (([torch.rand(3, 16, 16), torch.rand(3, 32, 32)],), "must have one size"),
    ):
        with pytest.raises(UsageError, match=words):
            generate(*arguments)
    with pytest.raises(UsageError, match="`precision` must be one of fp32, bf16, fp16, but got 'fp8'"):
        OrbitGenerator.from_pretrained("emu:tiny", precision="fp8")
    with pytest.raises(UsageError, match=r"`backbone` must be one of .*, but got 'sora'"):
        OrbitGenerator.from_pretrained("sora:tiny")
    with pytest.raises(CheckpointError, match=r"Unknown video model 'giant': give .*BACKBONE:SOURCE"):
        OrbitGenerator.from_pretrained("giant")
