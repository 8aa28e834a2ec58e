import numpy as np
import pytest
import torch
from PIL import Image

from vfusion3d.alpha import over_white
from vfusion3d.cameras import Rig, fit_radius, focal_from_fov, fov_from_focal
from vfusion3d.errors import InputImageError, UsageError
from vfusion3d.preprocessing import (
    EXTENT,
    Window,
    crop_window,
    object_window,
    recentre,
    rig_border,
    source_camera,
    window_focal,
)


def box_picture(size=(200, 120), box=(30, 20, 130, 70), colour="red") -> Image.Image:
    picture = Image.new("RGBA", size, (0, 0, 255, 0))
    picture.paste(colour, box)
    return picture


@pytest.mark.parametrize("border", [0.0, 0.1, 0.25])
@pytest.mark.parametrize("box", [(30, 20, 130, 70), (150, 5, 170, 115), (0, 0, 200, 120)])
def test_the_long_side_fills_the_square_but_for_the_border(border, box):
    image, window = recentre(box_picture(box=box), 160, border)
    rows = np.flatnonzero((image[3] > 0.5).any(1).numpy())
    columns = np.flatnonzero((image[3] > 0.5).any(0).numpy())
    height, width = rows[-1] + 1 - rows[0], columns[-1] + 1 - columns[0]
    assert max(height, width) == pytest.approx(160 * (1 - 2 * border), abs=1)
    assert (rows[0] + rows[-1] + 1) / 2 == pytest.approx(80, abs=1)
    assert (columns[0] + columns[-1] + 1) / 2 == pytest.approx(80, abs=1)
    assert window.side == pytest.approx(max(box[2] - box[0], box[3] - box[1]) / (1 - 2 * border))


def test_resampling_takes_the_mean_over_each_pixel():
    pixels = np.random.default_rng(0).integers(0, 255, (96, 96, 4)).astype(np.uint8)
    image = crop_window(Image.fromarray(pixels), Window(0, 0, 96), 32)
    straight = pixels.astype(np.float64) / 255
    straight[..., :3] *= straight[..., 3:]
    expected = straight.reshape(32, 3, 32, 3, 4).mean((1, 3)).transpose(2, 0, 1)
    assert np.abs(image.numpy() - expected).max() < 1e-5


def test_hidden_colours_of_transparent_pixels_do_not_bleed():
    image, _ = recentre(box_picture(), 37)  # the transparent part is blue underneath
    assert float(image[2].max()) == 0
    assert float((over_white(image)[0] - 1).abs().max()) < 1e-6  # red over white has no less red anywhere


def test_fractional_windows_move_the_picture():
    picture = box_picture((64, 64), (16, 16, 48, 48))
    left = crop_window(picture, Window(0.5, 0.0, 64), 64)[3]
    assert left[32, 15] == pytest.approx(0.5) and left[32, 47] == pytest.approx(0.5)


def test_enlarging_interpolates():
    picture = Image.new("RGBA", (32, 32), "black")
    picture.paste("white", (16, 0, 32, 32))
    row = crop_window(picture, Window(8, 8, 16), 64)[0, 32]
    assert row[30:34].tolist() == pytest.approx([0.125, 0.375, 0.625, 0.875])


def test_dust_does_not_widen_the_box():
    picture = box_picture()
    picture.putpixel((199, 119), (255, 0, 0, 255))
    alpha = np.asarray(picture.getchannel("A")) / 255
    assert object_window(alpha, 0.1) == Window(17.5, -17.5, 125)


def test_an_empty_picture_and_a_wrong_border():
    with pytest.raises(InputImageError, match="no foreground"):
        recentre(Image.new("RGBA", (64, 64)), 32)
    with pytest.raises(UsageError, match=r"`border` must be between 0 and 0\.45, but got 0\.5"):
        recentre(box_picture(), 32, border=0.5)


@pytest.mark.parametrize("elevation", [-20.0, 0.0, 45.0])
def test_the_nominal_camera_sees_the_extent_fill_the_frame(elevation):
    camera = source_camera(elevation, border=0.1)
    camera.validate()
    ends = torch.tensor([[0.0, -EXTENT / 2, 0.0], [0.0, EXTENT / 2, 0.0], [0.0, 0.0, 0.0]])
    uv, depth = camera.project(ends)
    assert uv[:, 0].tolist() == pytest.approx([0.1, 0.9, 0.5], abs=1e-5)
    assert (depth > 0).all()
    assert float(camera.azimuths) == pytest.approx(0, abs=1e-6)
    assert float(torch.rad2deg(camera.elevations)) == pytest.approx(elevation, abs=1e-4)


def test_a_wider_border_is_a_shorter_focal_length():
    narrow, wide = source_camera(border=0.05), source_camera(border=0.2)
    assert float(wide.intrinsics[0] / narrow.intrinsics[0]) == pytest.approx(0.6 / 0.9)
    assert torch.equal(wide.poses, narrow.poses)


def test_impossible_elevation():
    with pytest.raises(UsageError, match="`elevation`"):
        source_camera(elevation=120)


@pytest.mark.parametrize("size", [(200, 100), (100, 200)])
def test_a_known_field_of_view_is_that_of_the_longer_side(size):
    whole = Window(0, 0, 200)
    assert fov_from_focal(window_focal(60, size, whole)) == pytest.approx(60)
    assert window_focal(60, size, Window(30, 10, 50)) == pytest.approx(4 * window_focal(60, size, whole))


@pytest.mark.parametrize("fov", [20.0, 40.0, 60.0])
def test_a_known_field_of_view_gives_the_distance(fov):
    """A camera that took a picture of a disc, recentred: the nominal camera stands where it stood."""
    radius, border, size = 4.0, 0.1, 400
    width = size * focal_from_fov(fov) * EXTENT / radius  # of a flat object of the extent at the origin
    window = Window(0, 0, width / (1 - 2 * border))
    camera = source_camera(20, border, focal=window_focal(fov, (size, size), window))
    assert float(camera.centers.norm()) == pytest.approx(radius, rel=1e-5)
    assert float(camera.intrinsics[0]) == pytest.approx(focal_from_fov(fov) * size / window.side)


def test_an_impossible_field_of_view():
    with pytest.raises(UsageError, match="`fov` must be between 0 and 180"):
        window_focal(180, (100, 100), Window(0, 0, 100))
    with pytest.raises(UsageError, match=r"the camera would stand 0\.63 from the centre"):
        source_camera(focal=window_focal(120, (100, 100), Window(0, 0, 100)))


def test_a_rigs_border_is_the_one_with_which_a_recentred_picture_has_the_rigs_camera():
    for fov in (30.0, 40.0, 60.0):
        camera = source_camera(border=rig_border(Rig(fit_radius(fov), fov)), fov=fov)
        assert camera.intrinsics[0].item() == pytest.approx(focal_from_fov(fov))
    assert rig_border(Rig(1.2, 40.0)) == 0.0 and rig_border(Rig(100.0, 40.0)) == 0.45  # too near, too far
