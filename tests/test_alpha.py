from __future__ import annotations

import numpy as np
import torch

from vfusion3d.alpha import over_white, straight_pixels


def test_straight_pixels_come_back(picture: torch.Tensor) -> None:
    half = picture * 0.5  # half transparent everywhere
    pixels = straight_pixels(half)
    assert pixels.shape == (1, 32, 32, 4) and pixels.dtype == np.uint8
    back = torch.from_numpy(pixels).movedim(-1, -3) / 255
    assert float((back[:, :3] * back[:, 3:] - half[:, :3]).abs().max()) <= 1 / 255
    assert not pixels[pixels[..., 3] == 0].any()


def test_over_white_of_clear_and_solid_pixels(picture: torch.Tensor) -> None:
    white = over_white(picture)
    clear = (picture[:, 3:] == 0).expand(-1, 3, -1, -1)
    assert bool((white[clear] == 1).all()) and torch.equal(white[~clear], picture[:, :3][~clear])
