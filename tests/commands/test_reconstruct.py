import json
import re
from pathlib import Path

import imageio.v3 as imageio
import pytest
import torch
import trimesh
from PIL import Image, ImageDraw

from vfusion3d import ImageTo3DPipeline, ReconstructorConfig, TriplaneReconstructor
from vfusion3d.commands.per_picture import folder_names
from vfusion3d.commands.reconstruct import FORMATS, build_parser, run
from vfusion3d.data.scenes import Scene
from vfusion3d.errors import CheckpointError, OutputError, UsageError
from vfusion3d.meshes.writers import MILLIMETRES
from vfusion3d.models.triplanes import TEXTURE_SIZE
from vfusion3d.pipelines import MESH_FACES, MESH_RESOLUTION
from vfusion3d.preprocessing import BORDER, ELEVATION
from vfusion3d.rendering.turntable import FRAMES, TURN_ELEVATION

FAST = ["--resolution", "16", "--frames", "4", "--render-size", "16", "--faces", "200", "--texture-size", "64"]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    TriplaneReconstructor(ReconstructorConfig.preset("tiny", iso_threshold=0.5)).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def picture(tmp_path) -> str:
    return draw(tmp_path / "ball.png")


def draw(path, colour="red") -> str:
    path.parent.mkdir(exist_ok=True)
    image = Image.new("RGB", (96, 96), "white")
    ImageDraw.Draw(image).ellipse((25, 15, 70, 80), fill=colour)
    image.save(path)
    return str(path)


def call(*arguments: str) -> int:
    return run(build_parser().parse_args([*arguments]))


def test_leaves_the_five_files(tmp_path, picture, model, capsys):
    assert call(picture, "--output", str(tmp_path / "out"), "--model", model, *FAST) == 0
    folder = tmp_path / "out" / "ball"
    names = ["input.png", "mesh.glb", "report.json", "turntable.mp4", "views.png"]
    assert sorted(p.name for p in folder.iterdir()) == names
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["ball"]
    assert trimesh.load(folder / "mesh.glb", force="mesh").volume > 0
    assert imageio.imread(folder / "turntable.mp4").shape == (4, 16, 16, 3)
    assert Image.open(folder / "input.png").mode == "RGBA"
    report = json.loads((folder / "report.json").read_text())
    assert report["files"] == names and report["picture"] == picture
    assert report["model"] == {"name": "tiny", "source": model, "licence": "Apache-2.0"}
    steps = {"prepare", "reconstruct", "mesh", "texture", "write_mesh", "render", "write_views"}
    assert set(report["seconds"]) == steps
    mesh = report["mesh"]
    assert mesh["watertight"] and mesh["components"] >= 1 and mesh["faces"] <= 200 and mesh["texture"] == 64
    assert "heuristic" in report["background"] and report["versions"]["torch"] == torch.__version__
    assert (report["settings"]["elevation"], report["settings"]["border"]) == (ELEVATION, BORDER)
    printed = capsys.readouterr()
    assert str(folder) in printed.out
    assert all(f"ball: {step}" in printed.err for step in ("mesh", "texture", "views"))
    part = trimesh.load(folder / "mesh.glb", force="mesh")
    assert part.visual.material.baseColorTexture.size == (64, 64)


def test_warnings_are_printed_and_reported(tmp_path, model, capsys):
    image = Image.new("RGBA", (96, 96), (0, 0, 0, 0))
    image.paste("red", (25, 15, 70, 96))
    image.save(tmp_path / "cut.png")
    options = ["--model", model, "--formats", "glb", "--background", "alpha", "--fov", "30", *FAST]
    assert call(str(tmp_path / "cut.png"), "--output", str(tmp_path / "o"), *options) == 0
    report = json.loads((tmp_path / "o" / "cut" / "report.json").read_text())
    [warning] = report["warnings"]
    assert warning.startswith(f"Picture '{tmp_path / 'cut.png'}'") and "reaches the bottom edge" in warning
    assert warning in capsys.readouterr().err
    assert (report["settings"]["fov"], report["settings"]["background"]) == (30, "alpha")


def test_formats(tmp_path, picture, model):
    assert (
        call(picture, "--output", str(tmp_path / "o"), "--model", model, "--formats", "obj", "ply", "stl", *FAST) == 0
    )
    assert {p.name for p in (tmp_path / "o" / "ball").iterdir()} == {
        *("mesh.obj", "mesh.mtl", "mesh.png", "mesh.ply", "mesh.stl", "views.png", "input.png", "report.json")
    }


def test_maps_are_a_scene(tmp_path, picture, model):
    assert call(picture, "--output", str(tmp_path / "o"), "--model", model, *FAST, "--formats", "maps") == 0
    scene = Scene.load(tmp_path / "o" / "ball" / "maps")
    assert len(scene.cameras) == 4 and scene.images().shape == (4, 4, 16, 16) and scene.info.source == "ball.png"
    depths, normals, solid = scene.depths(), scene.normals(), scene.images()[:, 3] > 0.52
    assert depths.shape == (4, 1, 16, 16) and (depths[:, 0][solid] > 0).all()
    assert normals.shape == (4, 3, 16, 16) and (normals.norm(dim=1)[solid] - 1).abs().max() < 0.02


def test_vertex_colours_millimetres_and_path(tmp_path, picture, model):
    options = ["--texture-size", "0", "--threshold", "0.4", "--millimetres", "42", "--path", "swing"]
    options += ["--formats", "glb", "obj", "stl", "mp4"]
    assert call(picture, "--output", str(tmp_path / "o"), "--model", model, *FAST, *options) == 0
    folder = tmp_path / "o" / "ball"
    assert not (folder / "mesh.mtl").exists()
    assert trimesh.load(folder / "mesh.glb", force="mesh").visual.material.baseColorTexture is None
    assert trimesh.load(folder / "mesh.stl").extents.max() == pytest.approx(42)
    report = json.loads((folder / "report.json").read_text())
    assert report["settings"]["threshold"] == 0.4
    assert report["mesh"]["texture"] is None and report["settings"]["turntable_path"] == "swing"


def test_json_is_one_document_and_one_bad_picture_does_not_lose_the_others(tmp_path, picture, model, capsys):
    (tmp_path / "text.png").write_text("no picture")
    Image.new("RGB", (64, 64), "white").save(tmp_path / "blank.png")
    bad = [str(tmp_path / name) for name in ("text.png", "missing.png", "blank.png")]
    pictures = [bad[0], bad[1], picture, bad[2]]
    assert call(*pictures, "--output", str(tmp_path / "o"), "--model", model, "--formats", "glb", "--json", *FAST) == 2
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert [result["picture"] for result in document["results"]] == [picture]
    assert [failure["picture"] for failure in document["failures"]] == bad
    sentences = printed.err.strip().splitlines()[-3:]
    assert sentences == [failure["error"] for failure in document["failures"]]
    assert all(str(name) in sentence for name, sentence in zip(bad, sentences, strict=True))
    assert [p.name for p in (tmp_path / "o").iterdir()] == ["ball"]


def test_if_every_picture_fails_no_folder_is_left(tmp_path, model):
    (tmp_path / "text.png").write_text("no picture")
    bad = str(tmp_path / "text.png")
    assert call(bad, "--output", str(tmp_path / "new"), "--model", model, *FAST) == 2
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    assert call(bad, "--output", str(tmp_path / "old"), "--model", model, *FAST) == 2
    assert (tmp_path / "old").is_dir()


def test_pictures_of_one_name_get_folders_of_their_own(tmp_path, model):
    pictures = [draw(tmp_path / "a" / "x.png", "red"), draw(tmp_path / "b" / "x.png", "blue")]
    assert call(*pictures, "--output", str(tmp_path / "o"), "--model", model, "--formats", "glb", *FAST) == 0
    inputs = [Image.open(tmp_path / "o" / name / "input.png").getpixel((16, 16)) for name in ("x", "x_2")]
    assert inputs[0][0] > 200 and inputs[1][2] > 200


def test_folder_names():
    assert folder_names(["a/x.png", "b/X.jpg", "x_2.png", "x.png", ".png", "."]) == [
        *("x", "X_2", "x_2_2", "x_3", "png", "picture")
    ]


def with_threshold(model, folder, threshold):
    """The same model with another `iso_threshold`."""
    folder.mkdir()
    config = json.loads((Path(model) / "config.json").read_text()) | {"iso_threshold": threshold}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").symlink_to(f"{model}/model.safetensors")
    return str(folder)


def test_the_threshold_is_fitted_and_reported(tmp_path, picture, model):
    other = with_threshold(model, tmp_path / "other", None)
    options = ["--formats", "ply", "--resolution", "32", "--render-size", "16"]
    assert call(picture, "--output", str(tmp_path / "o"), "--model", other, *options) == 0
    report = json.loads((tmp_path / "o" / "ball" / "report.json").read_text())
    [result] = ImageTo3DPipeline.from_pretrained(other, "cpu")(picture)
    assert report["settings"]["threshold"] == pytest.approx(result.triplanes.surface_threshold(), abs=1e-4)
    assert report["mesh"]["vertices"] == len(trimesh.load(tmp_path / "o" / "ball" / "mesh.ply").vertices)
    assert report["mesh"]["volume"] == pytest.approx(result.mesh(32).volume, rel=0.01)


def test_no_surface_names_the_picture(tmp_path, picture, model, capsys):
    other = with_threshold(model, tmp_path / "other", 1e9)
    assert call(picture, "--output", str(tmp_path / "o"), "--model", other, *FAST) == 2
    assert f"Picture '{picture}': The density stays under the threshold" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_a_full_disk_leaves_nothing(tmp_path, picture, model, monkeypatch, capsys):
    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert call(picture, "--output", str(tmp_path / "o"), "--model", model, *FAST) == 2
    assert f"Output '{tmp_path / 'o' / 'ball'}' cannot be written: the disk is full" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_interruption_leaves_nothing(tmp_path, picture, model, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("vfusion3d.rendering.turntable.write_video", interrupt)
    with pytest.raises(KeyboardInterrupt):
        call(picture, "--output", str(tmp_path / "o"), "--model", model, *FAST)
    assert not (tmp_path / "o").exists()


def test_existing_results(tmp_path, picture, model, capsys):
    arguments = [picture, "--output", str(tmp_path / "o"), "--model", model, "--formats", "glb", *FAST]
    assert call(*arguments) == 0
    assert call(*arguments) == 2
    assert "already exists" in capsys.readouterr().err
    assert call(*arguments, "--overwrite") == 0


def test_bad_output_folder(tmp_path, picture, model, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="a file is in the way"):
        call(picture, "--output", str(tmp_path / "file"), "--model", model)

    def refuse(**options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(OutputError, match="not permitted"):
        call(picture, "--output", str(tmp_path / "o"), "--model", model)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--formats", "glb", "fbx"], f"Format 'fbx' is unknown; choose from {', '.join(FORMATS)}"),
        (["--resolution", "4"], "--resolution must be between 16 and 1024, but got 4"),
        (["--threshold", "0"], "--threshold"),
        (["--frames", "0"], "--frames"),
        (["--render-size", "5000"], "--render-size"),
        (["--faces", "3"], "--faces must be between 4 and 10000000, but got 3"),
        (["--texture-size", "9000"], "--texture-size must be 0 or between 16 and 8192, but got 9000"),
        (["--millimetres", "-1"], "--millimetres"),
        (["--turn-elevation", "100"], "--turn-elevation"),
        (["--elevation", "91"], "--elevation"),
        (["--border", "0.6"], "--border"),
        (["--fov", "160"], "--fov must be between 1 and 150"),
        (["--background", "magic"], "Background strategy 'magic' is unknown"),
        (["--background", "birefnet"], "needs the file birefnet-general.onnx"),
        (["--background-weights", "a.onnx"], "of no use to the strategy 'auto'"),
        (["--device", "toaster"], "Device 'toaster' is not available"),
    ],
)
def test_wrong_options(tmp_path, picture, model, options, words):
    with pytest.raises(UsageError, match=words):
        call(picture, "--output", str(tmp_path / "o"), "--model", model, *options)


def test_unknown_model(tmp_path, picture):
    with pytest.raises(CheckpointError, match="no-such-model"):
        call(picture, "--output", str(tmp_path / "o"), "--model", "no-such-model")


def test_help_states_the_true_defaults():
    text = re.sub(r"\s+", " ", build_parser().format_help())
    assert f"pictures were taken ({ELEVATION:g})" in text
    assert f"of the object ({BORDER:g})" in text
    assert f"for the mesh ({MESH_RESOLUTION})" in text
    assert f"frames of the turntable ({FRAMES})" in text
    assert f"triangles of the mesh at most ({MESH_FACES};" in text
    assert f"colours the vertices instead ({TEXTURE_SIZE})" in text
    assert f"object in an STL file ({MILLIMETRES:g})" in text
    assert f"horizon of the turntable ({TURN_ELEVATION:g})" in text
    assert "vfusion3d reconstruct owl.png --output out" in text
