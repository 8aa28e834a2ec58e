from __future__ import annotations

import pytest
import torch

from vfusion3d.metrics import foreground_psnr, mask_iou, psnr, ssim


def test_psnr_is_per_picture():
    target = torch.zeros(2, 3, 4, 4)
    prediction = torch.stack([torch.full((3, 4, 4), 0.1), torch.full((3, 4, 4), 0.01)])
    assert psnr(prediction, target).tolist() == pytest.approx([20.0, 40.0], abs=1e-3)


def test_foreground_psnr_ignores_the_background():
    target = torch.ones(1, 3, 8, 8)
    prediction = target.clone()
    prediction[..., :2, :] -= 0.1
    region = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    region[..., :4, :] = True
    assert float(foreground_psnr(prediction, target, region)) == pytest.approx(23.0103, abs=1e-3)
    assert float(psnr(prediction, target)) == pytest.approx(26.0206, abs=1e-3)
    assert foreground_psnr(prediction, target, region & False).isnan().all()


def test_iou():
    first, second = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    assert float(mask_iou(first, second)) == 1
    first[..., :2], second[..., 1:3] = 1, 1
    assert float(mask_iou(first, second)) == pytest.approx(1 / 3)


@pytest.mark.parametrize("size", [(11, 11), (40, 24)])
def test_ssim_is_that_of_scikit_image(size):
    from skimage.metrics import structural_similarity

    target = torch.nn.functional.interpolate(torch.rand(2, 3, 6, 6), size, mode="bilinear")
    prediction = torch.stack([target[0], (target[1] + 0.2 * torch.randn(3, *size)).clamp(0, 1)])
    expected = [
        structural_similarity(
            a.numpy(), b.numpy(), channel_axis=0, data_range=1, gaussian_weights=True, use_sample_covariance=False
        )
        for a, b in zip(prediction, target, strict=True)
    ]
    assert ssim(prediction, target).tolist() == pytest.approx(expected, abs=1e-4) and expected[0] == 1
    assert ssim(prediction[:, None], target[:, None]).shape == (2, 1)


def test_ssim_of_pictures_smaller_than_its_window_is_not_defined():
    assert ssim(torch.rand(2, 3, 10, 30), torch.rand(2, 3, 10, 30)).isnan().tolist() == [True, True]
