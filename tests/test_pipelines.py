from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from vfusion3d import ImageTo3DPipeline, ReconstructorConfig, TriplaneReconstructor
from vfusion3d.errors import CheckpointError, InputImageError, UsageError
from vfusion3d.models import Triplanes
from vfusion3d.pipelines import Reconstruction, choose_device
from vfusion3d.rendering.isosurface import EmptySurfaceError


def picture(colour="red", size=(120, 90)) -> Image.Image:
    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).ellipse((30, 15, 80, 75), fill=colour)
    return image


@pytest.fixture(scope="module")
def pipeline() -> ImageTo3DPipeline:
    torch.manual_seed(0)
    return ImageTo3DPipeline(TriplaneReconstructor(ReconstructorConfig.preset("tiny", iso_threshold=0.5)))


@pytest.fixture(scope="module")
def result(pipeline) -> Reconstruction:
    return pipeline(picture())[0]


def test_files_and_pictures_give_the_same(pipeline, result, tmp_path):
    picture().save(tmp_path / "a.png")
    [from_file] = pipeline(str(tmp_path / "a.png"))
    assert torch.equal(from_file.triplanes.planes, result.triplanes.planes)


def test_a_batch_is_as_good_as_one_by_one(pipeline):
    pictures = [picture("red"), picture("blue"), picture("green", (90, 140))]
    together = pipeline(pictures)
    assert len(together) == 3
    for one, image in zip(together, pictures, strict=True):
        [alone] = pipeline(image)
        assert torch.allclose(one.triplanes.planes, alone.triplanes.planes, atol=1e-5)
        assert len(one.triplanes) == 1


def test_the_model_reads_the_recentred_object_and_its_camera(pipeline):
    prepared = pipeline.prepare(picture(), elevation=20, border=0.2)
    assert prepared.rgba.shape == (4, 32, 32)
    rows = np.flatnonzero((prepared.rgba[3] > 0.5).any(1).numpy())
    assert rows[-1] + 1 - rows[0] == pytest.approx(32 * 0.6, abs=1)
    assert float(torch.rad2deg(prepared.camera.elevations)) == pytest.approx(20, abs=1e-4)
    image = prepared.image()
    assert image.size == (32, 32) and image.mode == "RGBA"
    assert np.abs(np.subtract(image.getpixel((16, 16)), (255, 0, 0, 255))).max() <= 2
    assert "heuristic" in prepared.background


def test_a_known_field_of_view_moves_the_camera_and_reaches_the_model(pipeline, result):
    nominal = pipeline.prepare(picture())
    known = pipeline.prepare(picture(), fov=20)
    # 120 pixels are 20 degrees; the window is as long as the object and a border of a tenth on either side.
    focal = 0.5 / np.tan(np.radians(10)) * 120 / known.window.side
    assert float(known.camera.intrinsics[0]) == pytest.approx(focal)
    assert known.camera.centers.norm() > nominal.camera.centers.norm() and known.warnings == ()
    assert torch.equal(known.rgba, nominal.rgba)
    [seen] = pipeline(picture(), fov=20)
    assert not torch.allclose(seen.triplanes.planes, result.triplanes.planes)


def test_a_model_of_one_fixed_camera_says_that_the_field_of_view_has_no_effect():
    torch.manual_seed(0)
    fixed = ImageTo3DPipeline(TriplaneReconstructor(ReconstructorConfig.preset("tiny", source_frame="fixed")))
    assert fixed.prepare(picture()).warnings == ()
    [warning] = fixed.prepare(picture(), fov=20).warnings
    assert warning == "The model 'tiny' assumes one fixed camera: the field of view has no effect."


def test_warnings_and_background_strategies(pipeline):
    cut = Image.new("RGBA", (120, 90), (0, 0, 255, 0))
    cut.paste("red", (30, 15, 80, 90))
    prepared = pipeline.prepare(cut, background="alpha")
    assert "alpha" in prepared.background and "reaches the bottom edge" in prepared.warnings[0]
    with pytest.raises(InputImageError, match="no transparent part"):
        pipeline(picture(), background="alpha")
    with pytest.raises(UsageError, match="needs the file isnet-general-use"):
        pipeline(picture(), background="rembg")


def test_elevation_reaches_the_model(pipeline, result):
    [higher] = pipeline(picture(), elevation=30)
    assert not torch.allclose(higher.triplanes.planes, result.triplanes.planes)


def test_mesh_turntable_and_sheet(result):
    told = []
    mesh = result.mesh(resolution=32, progress=lambda done, total: told.append((done, total)))
    assert mesh.volume > 0 and told[-1][0] == told[-1][1]
    views = result.turntable(frames=3)
    assert views.shape == (3, 32, 32, 3)
    assert result.contact_sheet(views).size == (3 * 36 - 4, 3 * 36 - 4)


def test_mesh_is_in_the_world_of_the_renders(result):
    """A field with one red spot at the front, which the model's frame has on +Y: the mesh has it at +X."""

    class Field:
        def density(self, points):
            return 1 + 5 * (0.5 - points.norm(dim=-1))

        def density_and_colour(self, points):
            front = (points[..., 1:2] > 0.4).float()
            return self.density(points), torch.cat([front, 0 * front, 0 * front], -1)

        planar = False

    class Ball(Triplanes):
        def __init__(self):
            self.planes = torch.zeros(1)
            self.to_model = torch.tensor([[[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]])

        def object_field(self, index):
            return Field()

    config = SimpleNamespace(iso_threshold=1.0, render_size=8)
    mesh = Reconstruction(result.picture, Ball(), config).mesh(resolution=24)
    red = mesh.colours[:, 0] > 127
    assert float((mesh.normals * mesh.vertices).sum(-1).min()) > 0.4  # outwards
    assert red.any() and (mesh.vertices[red, 0] > 0.39).all() and (mesh.vertices[~red, 0] < 0.41).all()


def test_no_surface(result):
    with pytest.raises(EmptySurfaceError):
        result.mesh(resolution=16, threshold=1e9)


def test_pretrained(tmp_path):
    torch.manual_seed(1)
    model = TriplaneReconstructor("tiny")
    model.save_pretrained(tmp_path / "model")
    loaded = ImageTo3DPipeline.from_pretrained(tmp_path / "model", device="cpu")
    assert torch.equal(loaded.model.decoder.positions, model.decoder.positions)
    with pytest.raises(CheckpointError, match="no-such-model"):
        ImageTo3DPipeline.from_pretrained("no-such-model")


def test_bad_input(pipeline):
    with pytest.raises(InputImageError, match=r"'nowhere\.png' does not exist"):
        pipeline("nowhere.png")
    with pytest.raises(InputImageError, match="The picture is fully transparent"):
        pipeline(Image.new("RGBA", (64, 64)))
    with pytest.raises(UsageError, match="elevation"):
        pipeline(picture(), elevation=100)
    assert pipeline([]) == []


def test_devices():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
    for name in ("gpu", "meta:7:1"):
        with pytest.raises(UsageError, match=f"Device '{name}' is not available"):
            choose_device(name)
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="Device 'cuda' is not available"):
            choose_device("cuda")


def test_results_are_ordinary_objects(result):
    """They also work where gradients are recorded."""
    density, _ = result.triplanes.query(torch.zeros(1, 3, 3))
    assert density.shape == (1, 3)
    assert result.triplanes.mesh(threshold=0.01, resolution=24).volume > 0
