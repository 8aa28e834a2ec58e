from __future__ import annotations

import pytest
import torch

from vfusion3d.metrics import NovelViewMetrics, foreground_psnr, mask_iou, psnr, ssim


def pictures(objects: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Noisy predictions: pictures [B, 3, 3, 16, 16] and masks."""
    target, mask = torch.rand(objects, 3, 3, 16, 16), (torch.rand(objects, 3, 1, 16, 16) > 0.5).float()
    noise = torch.rand(objects, 1, 1, 1, 1) * torch.randn_like(target)
    return (target + noise).clamp(0, 1), torch.rand_like(mask), target, mask


def test_means_are_per_picture_then_per_object():
    prediction, opacity, target, mask = pictures()
    metrics = NovelViewMetrics()
    metrics.update(prediction[:2], opacity[:2], target[:2], mask[:2], torch.arange(2))
    metrics.update(prediction[2:], opacity[2:], target[2:], mask[2:], torch.arange(2, 5))
    values = {name: float(value) for name, value in metrics.compute().items()}
    region = (mask > 0.5) | (opacity > 0.5)
    assert values == pytest.approx(
        {
            "psnr": float(psnr(prediction, target).mean()),
            "foreground_psnr": float(foreground_psnr(prediction, target, region).mean()),
            "ssim": float(ssim(prediction, target).mean()),
            "iou": float(mask_iou(opacity, mask).mean()),
        },
        rel=1e-5,
    )


def test_an_object_counts_once_however_often_it_is_scored():
    """Three objects over two processes: one of them takes the first again."""
    everything = pictures(3)
    once, twice = NovelViewMetrics(), NovelViewMetrics()
    once.update(*everything, torch.arange(3))
    twice.update(*(part[[0, 2]] for part in everything), torch.tensor([0, 2]))
    twice.update(*(part[[1, 0]] for part in everything), torch.tensor([1, 0]))
    plain = float(psnr(everything[0][[0, 2, 1, 0]], everything[2][[0, 2, 1, 0]]).mean())
    assert float(once.compute()["psnr"]) == pytest.approx(float(twice.compute()["psnr"]), rel=1e-6)
    assert abs(plain - float(once.compute()["psnr"])) > 1e-2  # what counting it twice would have given


def test_pictures_without_a_figure_do_not_count():
    prediction, _, target, mask = pictures(2)
    mask[0, 0], opacity = 0, torch.zeros_like(mask)
    metrics = NovelViewMetrics()
    metrics.update(prediction, opacity, target, mask, torch.arange(2))
    expected = foreground_psnr(prediction, target, mask > 0.5)
    assert expected[0, 0].isnan()
    first, second = expected[0, 1:].mean(), expected[1].mean()
    assert float(metrics.compute()["foreground_psnr"]) == pytest.approx(float(first + second) / 2, rel=1e-5)


def test_what_is_no_number_lowers_the_mean_instead_of_leaving_it():
    """Pitfall 10 of PROTOCOLS.md: a failure that drops out makes a method look better."""
    prediction, opacity, target, mask = pictures(2)
    broken = prediction.clone(), opacity.clone()
    for part in broken:
        part[0, 1] = torch.nan
    values = []
    for given in ((prediction, opacity), broken):
        metrics = NovelViewMetrics()
        metrics.update(*given, target, mask, torch.arange(2))
        values.append(metrics.compute())
    assert all(values[1][name] < values[0][name] - 1e-3 for name in ("psnr", "foreground_psnr", "ssim", "iou"))


def test_nothing_of_it_is_saved():
    metrics = NovelViewMetrics()
    metrics.update(*pictures(), torch.arange(5))
    assert not metrics.state_dict() and not list(metrics.parameters())


def _score_a_part(rank: int, address: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    torch.manual_seed(0)
    everything = pictures(3)
    mine = torch.tensor([[0, 2], [1, 0]][rank])  # as `FixedEpochSampler` deals three samples to two processes
    metrics, whole = NovelViewMetrics(), NovelViewMetrics(sync_on_compute=False)
    metrics.update(*(part[mine] for part in everything), mine)
    whole.update(*everything, torch.arange(3))
    for name, value in whole.compute().items():
        assert float(metrics.compute()[name]) == pytest.approx(float(value), rel=1e-6)


def test_two_processes_agree_with_one(tmp_path):
    address = f"file://{tmp_path / 'meeting'}"
    torch.multiprocessing.start_processes(_score_a_part, (address,), 2, start_method="fork")  # no second import
