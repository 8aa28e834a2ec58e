from __future__ import annotations

import pytest
import torch

from vfusion3d.metrics import depth_error, foreground_psnr, mask_iou, psnr, ssim


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


def test_half_precision_is_that_of_the_rounded_pictures():
    first, second = torch.rand(2, 3, 24, 24), torch.rand(2, 3, 24, 24)
    region = torch.rand(2, 1, 24, 24) > 0.3
    for dtype in (torch.float16, torch.bfloat16):
        a, b = first.to(dtype), second.to(dtype)
        for half, whole in (
            (psnr(a, b), psnr(a.float(), b.float())),
            (foreground_psnr(a, b, region), foreground_psnr(a.float(), b.float(), region)),
            (ssim(a, b), ssim(a.float(), b.float())),
        ):
            torch.testing.assert_close(half.float(), whole, atol=1e-5, rtol=1e-5)
        assert psnr(a, a).tolist() == [100, 100]


def test_depth_errors_count_what_both_see():
    target, prediction = torch.rand(2, 3, 1, 8, 8) + 1, torch.rand(2, 3, 1, 8, 8) + 1
    masks = torch.rand(2, 2, 3, 1, 8, 8)
    masks[0, 1, 2] = 0
    region = (masks[0] > 0.5) & (masks[1] > 0.5)
    prediction[~(masks[0] > 0.5)] = torch.nan  # the background has no depth
    figures = depth_error(prediction, target, *masks)
    for picture in ((0, 0), (1, 1)):
        p, t = prediction[picture][region[picture]], target[picture][region[picture]]
        assert float(figures["depth_absolute"][picture]) == pytest.approx(float((p - t).abs().mean()), rel=1e-5)
        assert float(figures["depth_relative"][picture]) == pytest.approx(float(((p - t).abs() / t).mean()), rel=1e-5)
    assert figures["depth_absolute"].isnan().tolist() == [[False] * 3, [False, False, True]]
    halved = depth_error(prediction.half(), target, *masks)
    torch.testing.assert_close(halved["depth_absolute"], figures["depth_absolute"], atol=1e-3, rtol=0, equal_nan=True)


def test_depth_at_another_scale():
    target, everywhere = torch.rand(2, 1, 8, 8) + 1, torch.ones(2, 1, 8, 8, dtype=torch.bool)
    for value in depth_error(target * 3, target, everywhere, everywhere, fit_scale=True).values():
        torch.testing.assert_close(value, torch.zeros(2), atol=1e-6, rtol=0)
    prediction = target + 0.1 * torch.rand_like(target)
    scale = [
        float(torch.linalg.lstsq(p.view(-1, 1), t.view(-1, 1)).solution)
        for p, t in zip(prediction, target, strict=True)
    ]
    fitted = depth_error(prediction, target, everywhere, everywhere, fit_scale=True)["depth_absolute"]
    scaled = prediction * torch.tensor(scale).view(2, 1, 1, 1)
    torch.testing.assert_close(fitted, (scaled - target).abs().mean((1, 2, 3)))


def test_depths_that_cannot_be_compared():
    depth, mask = torch.ones(1, 4, 4), torch.ones(1, 4, 4)
    for bad in (torch.nan, torch.inf, 0.0):
        with pytest.raises(ValueError, match="positive, finite numbers"):
            depth_error(depth * bad, depth, mask, mask)
    with pytest.raises(ValueError, match=r"one shape, but have \[1, 4, 4\], \[1, 4, 4\], \[1, 4, 4\], \[4, 4\]"):
        depth_error(depth, depth, mask, mask[0])
