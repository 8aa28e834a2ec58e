import subprocess
from types import SimpleNamespace

import imageio.v3 as imageio
import numpy as np
import pytest
import torch
from PIL import Image

from vfusion3d.cameras import orbit
from vfusion3d.errors import OutputError
from vfusion3d.rendering.turntable import (
    contact_sheet,
    on_checkerboard,
    render_views,
    turntable_cameras,
    write_video,
)


class FakeScene:
    """Each view is grey, as bright as the camera's azimuth share of a turn."""

    def render(self, cameras, height, width, *, skip_empty):
        assert cameras.shape == (1, 1)
        shade = (cameras.azimuths % (2 * torch.pi)) / (2 * torch.pi)
        return SimpleNamespace(rgb=shade[:, :, None, None, None].expand(1, 1, 3, height, width))


def test_views_come_in_order_and_progress_is_told():
    told = []
    views = render_views(FakeScene(), orbit(views=4), 6, progress=lambda *numbers: told.append(numbers))
    assert views.shape == (4, 6, 6, 3) and views.dtype == np.uint8
    assert views[:, 0, 0, 0].tolist() == [0, 64, 128, 191]
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_turn_starts_at_the_front():
    cameras = turntable_cameras(8, elevation=15.0)
    assert float(cameras.azimuths[0]) == pytest.approx(0, abs=1e-6)
    assert torch.rad2deg(cameras.elevations).tolist() == pytest.approx([15.0] * 8, abs=1e-3)


def test_a_swing_rises_and_falls():
    cameras = turntable_cameras(8, elevation=15.0, path="swing")
    heights = torch.rad2deg(cameras.elevations).tolist()
    assert heights[::2] == pytest.approx([15, 35, 15, -5], abs=1e-3)
    azimuths = torch.rad2deg(cameras.azimuths).tolist()
    assert azimuths == pytest.approx([0, 45, 90, 135, 180, -135, -90, -45], abs=1e-2)
    with pytest.raises(ValueError, match="`path` must be one of"):
        turntable_cameras(8, path="spiral")  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(64, 48), (63, 33)])
def test_video_comes_back(tmp_path, size):
    height, width = size
    shades = np.linspace(30, 220, 10)
    frames = np.broadcast_to(shades[:, None, None, None], (10, height, width, 3)).astype(np.uint8)
    write_video(frames, tmp_path / "film.mp4", frames_per_second=12)
    back = imageio.imread(tmp_path / "film.mp4")
    assert back.shape == (10, height + height % 2, width + width % 2, 3)
    assert np.abs(back.mean((1, 2, 3)) - shades).max() < 4
    information = imageio.immeta(tmp_path / "film.mp4")
    assert information["codec"] == "h264" and "yuv420p" in information["pix_fmt"] and information["fps"] == 12


def test_video_on_a_full_disk(tmp_path, monkeypatch):
    failed = SimpleNamespace(returncode=1, stderr=b"Error writing trailer: No space left on device\n")
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: failed)
    with pytest.raises(OSError, match="No space left") as caught:
        write_video(np.zeros((2, 16, 16, 3), np.uint8), tmp_path / "film.mp4")
    assert caught.value.errno == 28


def test_video_that_cannot_be_encoded(tmp_path):
    with pytest.raises(OutputError, match=r"Video 'film.mp4' could not be encoded \(.*\); leave out the format mp4"):
        write_video(np.zeros((2, 16, 16, 3), np.uint8), tmp_path / "nowhere" / "film.mp4")


def test_contact_sheet():
    images = [np.full((10, 20, 3), shade, np.uint8) for shade in (10, 20, 30, 40)]
    sheet = contact_sheet(images, columns=3, gap=2)
    assert sheet.size == (3 * 22 - 2, 2 * 12 - 2)
    assert [sheet.getpixel(p)[0] for p in ((0, 0), (22, 0), (44, 9), (0, 12), (22, 12), (20, 0))] == [
        *(10, 20, 30, 40, 255, 255)
    ]


def test_a_checkerboard_shows_where_a_picture_is_transparent():
    picture = Image.new("RGBA", (64, 32), (255, 0, 0, 0))
    picture.paste((0, 0, 255, 255), (0, 0, 32, 32))
    board = on_checkerboard(picture, 32)
    assert board.size == (32, 32) and board.mode == "RGBA"
    pixels = np.asarray(board)
    assert (pixels[8:24, :16] == [0, 0, 255, 255]).all()
    assert {tuple(colour) for colour in pixels[8:24, 16:].reshape(-1, 4).tolist()} == {
        *((205, 205, 205, 255), (235, 235, 235, 255))
    }
