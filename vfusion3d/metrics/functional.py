"""Functional cores: one number per picture, so that averages go per picture, then per object, never pooled."""

from __future__ import annotations

import torch
from torch import Tensor

_SSIM_MARGIN = 5  # half of the 11-pixel window: what a Gaussian of 1.5 pixels has within 3.5 of them


def psnr(prediction: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of whole pictures, dB.

    Args:
        prediction, target: ``[..., C, H, W]`` in [0, 1].

    Returns:
        ``[...]``; equal pictures give 100.

    Example:
        >>> import torch
        >>> round(float(psnr(torch.full((3, 4, 4), 0.5), torch.full((3, 4, 4), 0.6))), 4)
        20.0
    """
    error = (prediction.float() - target.float()).square().mean((-3, -2, -1))
    return -10 * error.clamp_min(1e-10).log10()


def foreground_psnr(prediction: Tensor, target: Tensor, region: Tensor, of: Tensor | None = None) -> Tensor:
    """PSNR over a region, dB: with the union of both masks, what whole-image PSNR hides behind white.

    Args:
        prediction, target: ``[..., C, H, W]`` in [0, 1].
        region: Where errors count, boolean ``[..., 1, H, W]``.
        of: By whose pixels they are divided, boolean ``[..., 1, H, W]``; the region's by default. With the true
            object's, what is predicted beside it adds errors, and cannot thin out the others.

    Returns:
        ``[...]``; NaN where there are no such pixels.
    """
    error = ((prediction.float() - target.float()).square() * region).sum((-3, -2, -1))
    count = (region if of is None else of).sum((-3, -2, -1)) * prediction.shape[-3]
    return (-10 * (error / count).clamp_min(1e-10).log10()).where(count > 0, torch.nan)


def mask_iou(prediction: Tensor, target: Tensor) -> Tensor:
    """Intersection over union of masks at 0.5.

    Args:
        prediction, target: ``[..., 1, H, W]`` in [0, 1].

    Returns:
        ``[...]``; 1 where both are empty.
    """
    first, second = prediction > 0.5, target > 0.5
    union = (first | second).sum((-3, -2, -1))
    overlap = (first & second).sum((-3, -2, -1))
    return torch.where(union > 0, overlap / union.clamp_min(1), torch.ones_like(union, dtype=prediction.dtype))


def ssim(prediction: Tensor, target: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004): Gaussian window of 1.5 pixels, mean over channels.

    As scikit-image's ``structural_similarity(..., gaussian_weights=True, use_sample_covariance=False, data_range=1)``:
    windows that reach over the edge do not count.

    Args:
        prediction, target: ``[..., C, H, W]`` in [0, 1].

    Returns:
        ``[...]``; NaN for pictures smaller than the window of 11 pixels.

    Example:
        >>> import torch
        >>> round(float(ssim(torch.full((3, 16, 16), 0.5), torch.full((3, 16, 16), 0.6))), 4)
        0.9836
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    shape, margin = target.shape, _SSIM_MARGIN
    if min(shape[-2:]) < 2 * margin + 1:
        return target.new_full(shape[:-3], float("nan"))
    pictures = (prediction.float().reshape(-1, *shape[-3:]), target.float().reshape(-1, *shape[-3:]))
    _, similarity = structural_similarity_index_measure(
        *pictures, sigma=1.5, data_range=1.0, reduction="none", return_full_image=True
    )
    return similarity[..., margin:-margin, margin:-margin].mean((-3, -2, -1)).view(shape[:-3])


def novel_view_figures(prediction: Tensor, opacity: Tensor, target: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Figures of objects, each the mean over its pictures.

    Args:
        prediction, target: ``[..., V, 3, H, W]`` on white, in [0, 1]; NaN of a prediction counts as black and empty.
        opacity, mask: ``[..., V, 1, H, W]`` in [0, 1].

    Returns:
        ``psnr`` (dB), ``foreground_psnr`` (dB, over the union of both masks at 0.5), ``ssim`` and ``iou``, ``[...]``
        each; NaN where no picture has the figure.
    """
    # Left out of a mean, a failure would raise it.
    prediction, opacity = prediction.float().nan_to_num(0).clamp(0, 1), opacity.float().nan_to_num(0)
    region = (mask > 0.5) | (opacity > 0.5)
    return {
        "psnr": psnr(prediction, target).mean(-1),
        "foreground_psnr": foreground_psnr(prediction, target, region).nanmean(-1),
        "ssim": ssim(prediction, target).mean(-1),
        "iou": mask_iou(opacity, mask).mean(-1),
    }


def depth_error(
    prediction: Tensor, target: Tensor, prediction_mask: Tensor, target_mask: Tensor, fit_scale: bool = False
) -> dict[str, Tensor]:
    """Errors of expected depth where both masks say foreground, per picture.

    Over those pixels, with predicted depth ``p`` and true depth ``t``: ``mean |s p - t|`` and ``mean |s p - t| / t``,
    where ``s`` is 1, or the picture's least-squares scale ``sum(p t) / sum(p^2)``, for methods whose scale is free.

    Args:
        prediction, target: ``[..., 1, H, W]``, world units, both measured alike (along the ray, as `Triplanes.render`,
            or along the axis); positive where they count.
        prediction_mask, target_mask: Opacities in [0, 1], above 0.5 the foreground, or bool, ``[..., 1, H, W]``.
        fit_scale: Whether to fit ``s``; figures with and without are different numbers.

    Returns:
        ``depth_absolute`` (world units) and ``depth_relative``, ``[...]`` each, float32; NaN where no pixel is in both.

    Raises:
        ValueError: if shapes differ, or a depth that counts is not a positive, finite number.

    Example:
        >>> import torch
        >>> near, mask = torch.full((1, 4, 4), 2.0), torch.ones(1, 4, 4)
        >>> {name: float(value) for name, value in depth_error(near * 1.5, near, mask, mask).items()}
        {'depth_absolute': 1.0, 'depth_relative': 0.5}
    """
    if not prediction.shape == target.shape == prediction_mask.shape == target_mask.shape:
        shapes = ", ".join(str(list(part.shape)) for part in (prediction, target, prediction_mask, target_mask))
        raise ValueError(f"Depths and masks must have one shape, but have {shapes}.")
    region = (prediction_mask > 0.5) & (target_mask > 0.5)
    first, second = (torch.where(region, part.float(), 1.0) for part in (prediction, target))
    if not ((first > 0) & (second > 0) & first.isfinite() & second.isfinite()).all():
        raise ValueError("Depths must be positive, finite numbers wherever both masks say foreground.")
    inside, axes = region.float(), (-3, -2, -1)
    if fit_scale:
        products, squares = (first * second * inside).sum(axes, True), (first.square() * inside).sum(axes, True)
        first = first * products / squares.clamp_min(1e-12)
    error, count = (first - second).abs() * inside, inside.sum(axes)
    return {"depth_absolute": error.sum(axes) / count, "depth_relative": (error / second).sum(axes) / count}


def check_pair(prediction: Tensor, target: Tensor) -> None:
    """See that pictures can be compared.

    Raises:
        ValueError: if their shapes differ or they hold NaN or infinite numbers, which means would leave out.
    """
    if prediction.shape != target.shape:
        raise ValueError(
            f"Pictures to compare must have one size, but have shapes {list(prediction.shape)} and "
            f"{list(target.shape)}; resize them first."
        )
    if not (prediction.isfinite().all() and target.isfinite().all()):
        raise ValueError("Pictures to compare hold NaN or infinite numbers.")
