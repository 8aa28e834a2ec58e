import json
import re

import imageio.v3 as imageio
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from vfusion3d import OrbitGenerator
from vfusion3d.cameras import Rig
from vfusion3d.commands.orbit import PROFILES, SHEET_COLUMNS, build_parser, run
from vfusion3d.data.scenes import Scene
from vfusion3d.errors import CheckpointError, UsageError
from vfusion3d.video import Guidance, VideoModelConfig, choose_trainable, create_backbone, save_video_model
from vfusion3d.video.generator import STEPS
from vfusion3d.video.guidance import Profile

RIG = Rig(radius=3.0, fov=40.0, direction=-1, frames=4)
FAST = ["--steps", "1", "--guidance-image", "1"]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model") / "video"
    backbone = create_backbone("emu", "tiny", frames=RIG.frames)
    choose_trainable(backbone, "all")
    options = {"frames": RIG.frames}
    config = VideoModelConfig("emu", "tiny", "all", RIG, 16, options=options, name="mine", lineage=("Nothing.",))
    save_video_model(backbone, folder, config)
    return str(folder)


def draw(path, *boxes) -> str:
    path.parent.mkdir(exist_ok=True)
    image = Image.new("RGBA", (96, 96))  # transparent: no background to tell apart
    for box in boxes or [(25, 15, 70, 80)]:
        ImageDraw.Draw(image).ellipse(box, fill="red")
    image.save(path)
    return str(path)


def call(*arguments: str) -> int:
    return run(build_parser().parse_args([*arguments]))


def test_a_scene_folder_with_a_film_a_sheet_and_a_report(tmp_path, model, capsys):
    picture = draw(tmp_path / "ball.png")
    options = ["--seed", "5", "--text", "a red ball", "--elevation", "20", "--json"]
    assert call(picture, "--output", str(tmp_path / "o"), "--model", model, *FAST, *options) == 0
    folder = tmp_path / "o" / "ball"
    names = ["images", "input.png", "orbit.mp4", "report.json", "sheet.png", "transforms.json"]
    assert sorted(path.name for path in folder.iterdir()) == names
    printed = capsys.readouterr()
    report = json.loads((folder / "report.json").read_text())
    assert json.loads(printed.out)["results"] == [report] and "ball: frames" in printed.err
    assert report["files"] == names and report["rig"] == {"radius": 3.0, "fov": 40.0, "direction": -1, "frames": 4}
    assert (report["model"]["name"], report["model"]["lineage"], report["cameras"]) == ("mine", ["Nothing."], "nominal")
    assert report["settings"]["seed"] == 5 and set(report["seconds"]) == {"prepare", "generate", "write"}
    assert imageio.imread(folder / "orbit.mp4").shape == (4, 16, 16, 3)

    scene = Scene.load(folder)
    torch.testing.assert_close(scene.cameras.poses, RIG.cameras(np.radians(20)).poses, rtol=0, atol=1e-5)
    assert scene.info.caption == "a red ball" and "nominal" in scene.info.notes[0]
    generate = OrbitGenerator.from_pretrained(model, steps=1, guidance=Guidance(image=1.0))
    expected = generate(picture, "a red ball", 5)
    frames = scene.images()[:, :3]
    torch.testing.assert_close(frames, expected, rtol=0, atol=1 / 255 + 2e-3)
    sheet = np.asarray(Image.open(folder / "sheet.png")) / 255
    assert sheet.shape == (16, SHEET_COLUMNS * 20 - 4, 3)
    np.testing.assert_allclose(sheet[:, 20:36], frames[0].permute(1, 2, 0), atol=1e-6)
    source = Image.open(folder / "input.png")
    assert source.mode == "RGBA" and source.getpixel((0, 0))[3] == 0 and source.getpixel((8, 8))[3] == 255


def test_one_bad_picture_does_not_lose_the_others(tmp_path, model, capsys):
    (tmp_path / "text.png").write_text("no picture")
    two = draw(tmp_path / "two.png", (5, 30, 40, 60), (55, 30, 90, 60))
    pictures = [str(tmp_path / "text.png"), two, draw(tmp_path / "a" / "x.png"), draw(tmp_path / "b" / "x.png")]
    options = ["--output", str(tmp_path / "o"), "--model", model, *FAST]
    assert call(*pictures, *options) == 2
    printed = capsys.readouterr()
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["x", "x_2"]
    assert not (tmp_path / "o" / "x" / "transforms.json").exists()  # nobody said from where it was taken
    one, other = (imageio.imread(tmp_path / "o" / name / "images" / "003.png") for name in ("x", "x_2"))
    assert (one == other).all()  # the same picture, the same seed
    unreadable, several = printed.err.strip().splitlines()[-2:]
    assert unreadable.startswith(f"Picture '{pictures[0]}' is not a picture")
    assert several.startswith(f"Picture '{two}' shows 2 separate objects; crop it to one of them")
    assert call(two, *options, "--no-check") == 0
    assert "taken together as one object" in capsys.readouterr().err
    assert call(two, *options, "--no-check") == 2 and "already exists" in capsys.readouterr().err


def test_interruption_leaves_nothing(tmp_path, model, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("vfusion3d.rendering.turntable.write_video", interrupt)
    with pytest.raises(KeyboardInterrupt):
        call(draw(tmp_path / "ball.png"), "--output", str(tmp_path / "o"), "--model", model, *FAST)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--steps", "0"], "--steps must be between 1 and 1000, but got 0"),
        (["--seed", "-1"], "--seed"),
        (["--guidance-image", "-1"], "--guidance-image must be between 0 and 100"),
        (["--guidance-text", "101"], "--guidance-text"),
        (["--resolution", "4"], "--resolution must be between 8 and 4096, but got 4"),
        (["--elevation", "50"], "--elevation must be between 0 and 45, but got 50"),
        (["--text", "a", "b"], "--text must be one text or one for each of the 1 pictures, but got 2; put each in"),
        (["--background", "magic"], "Background strategy 'magic' is unknown"),
        (["--device", "toaster"], "Device 'toaster' is not available"),
        (["--solver", "magic"], "`solver` must be one of ddim"),
        (["--resolution", "17"], "sides that are multiples of"),
    ],
)
def test_wrong_options(tmp_path, model, options, words):
    with pytest.raises(UsageError, match=words):
        call("ball.png", "--output", str(tmp_path / "o"), "--model", model, *options)
    assert not (tmp_path / "o").exists()


def test_without_a_model(tmp_path, model, monkeypatch):
    arguments = [draw(tmp_path / "ball.png"), "--output", str(tmp_path / "o"), *FAST]
    monkeypatch.setattr("vfusion3d.video.trained.shipped_video_models", lambda: [])
    with pytest.raises(UsageError, match=r"No video model ships .*: name one with --model, a folder"):
        call(*arguments)
    monkeypatch.setattr("vfusion3d.video.trained.shipped_video_models", lambda: [model])  # the one that ships
    assert call(*arguments) == 0
    with pytest.raises(CheckpointError, match="Unknown video model 'giant'"):
        call(*arguments, "--model", "giant")


def test_help_states_the_true_defaults():
    text = re.sub(r"\s+", " ", build_parser().format_help())
    assert f"denoising steps ({STEPS})" in text
    assert f"its largest value ({Guidance().image:g})" in text and f"if there is one ({Guidance().text:g})" in text
    assert Profile.__args__ == tuple(PROFILES) and f"({Guidance().profile})" in text
    assert "vfusion3d orbit owl.png --output out" in text
