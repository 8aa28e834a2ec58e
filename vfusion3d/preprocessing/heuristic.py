"""Cutting the object out of its picture without any weights: the offline heuristic.

It is no matting network. It follows GrabCut (Rother et al. 2004) on a small copy of the picture:
a first guess from geodesic distances to the border (Wei et al. 2012), then a few rounds of two Gaussian
mixtures, one of the background's colour given its place and one of the object's colour, and a minimum cut
between them, solved as a convex program (Chan et al. 2006). A guided filter (He et al. 2013) carries the
mask to the full picture. Plain and studio backgrounds come out clean; a busy scene may not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage.color import rgb2lab
from skimage.graph import MCP_Geometric

from vfusion3d.preprocessing.salience import main_parts

WORK_SIDE = 256
ROUNDS = 4
FOREGROUND_SHARE = 0.001

Array = np.ndarray


@dataclass(frozen=True)
class HeuristicCut:
    """What the heuristic found.

    Args:
        alpha: Opacity in [0, 1], ``[H, W]``.
        doubt: Share of the picture's pixels whose colour speaks clearly neither for the object nor for the
            background (log odds under 1), in [0, 1]. On plain backgrounds it is a few percent at most.
    """

    alpha: Array
    doubt: float


def heuristic_cut(rgb: Array) -> HeuristicCut | None:
    """Where the object is.

    Args:
        rgb: Picture in [0, 1], ``[H, W, 3]``.

    Returns:
        A soft mask of the size of the picture, or None if there is no foreground.
    """
    found = foreground_mask(rgb)
    if found is None:
        return None
    mask, doubt = found
    return HeuristicCut(refine(rgb, mask), doubt)


# -- the mask ----------------------------------------------------------------------------------------------
def foreground_mask(rgb: Array) -> tuple[Array, float] | None:
    """Where the object is.

    Args:
        rgb: Picture in [0, 1], ``[H, W, 3]``.

    Returns:
        Boolean mask of a copy with at most `WORK_SIDE` pixels a side and its `HeuristicCut.doubt`, or None if
        there is no foreground.
    """
    small = _shrink(rgb, WORK_SIDE)
    lab = rgb2lab(ndimage.gaussian_filter(small, (0.6, 0.6, 0))).astype(np.float32)
    height, width = lab.shape[:2]
    v, u = np.mgrid[0:height, 0:width].astype(np.float32)
    place = np.stack([(u + 0.5) / width * 2 - 1, (v + 0.5) / height * 2 - 1], axis=-1)
    joint = np.concatenate([lab, place * 30], axis=-1)

    distance = _border_distance(lab)
    if float(np.percentile(distance, 99.5)) < 4.0:  # nothing stands out from the border
        return None
    score = np.clip(distance / max(0.6 * _otsu(distance), 4.0), 0, 3)
    prior = _place_prior(place)
    weight = _edge_weight(lab)
    mask = _cut(2.0 - 2.0 * score - prior, weight) > 0.5
    behind, odds = -distance, 1 - score
    for _ in range(ROUNDS):
        if not 0.002 < mask.mean() < 0.98:
            break
        # Enclosed pixels teach the background nothing: they may be a pale part of the object.
        outside = ~ndimage.binary_dilation(ndimage.binary_fill_holes(mask))
        behind = _log_conditional(joint, outside)
        # What looks just like the background teaches the object nothing: it may be seen through a hole.
        own = mask & (behind < np.percentile(behind[outside], 30) - 0.5) if outside.any() else mask
        if own.sum() < 50:
            break
        front = _Mixture.fit(lab[own], 6).log_density(lab.reshape(-1, 3)).reshape(height, width)
        odds = behind - front
        unary = np.clip(odds, -6, 6) - prior - 0.5 * (score - 1)
        mask = _cut(unary, weight) > 0.5
    mask = _tidy(mask, behind)
    if not FOREGROUND_SHARE < mask.mean() < 0.98:
        return None
    return mask, float((np.abs(odds) < 1).mean())


def _shrink(rgb: Array, side: int) -> Array:
    height, width = rgb.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return rgb
    size = (max(round(width * scale), 8), max(round(height * scale), 8))
    return np.stack([np.asarray(Image.fromarray(rgb[..., k]).resize(size, Image.Resampling.BOX)) for k in range(3)], -1)


def _border_distance(lab: Array) -> Array:
    """Geodesic distance of each pixel to the border: how much colour change lies on the easiest way out."""
    height, width = lab.shape[:2]
    border = np.zeros((height, width), dtype=np.int8)
    border[-2:], border[:, :2], border[:, -2:], border[:2] = 4, 2, 3, 1
    seeds = np.zeros_like(border, dtype=bool)
    for side in (1, 2, 3, 4):
        # An object may touch a side: only pixels that the other sides explain are certainly background.
        others = (border > 0) & (border != side)
        model = _Mixture.fit(lab[others], 4)
        floor = np.percentile(model.log_density(lab[others]), 2) - 2
        here = border == side
        seeds[here] = model.log_density(lab[here]) > floor
    if not seeds.any():
        seeds = border > 0
    step = np.sqrt(sum(ndimage.gaussian_gradient_magnitude(lab[..., k], 1.0) ** 2 for k in range(3)))
    cost = np.maximum(step - 1.0, 0) + 0.01
    return MCP_Geometric(cost).find_costs(np.argwhere(seeds))[0].astype(np.float32)


def _place_prior(place: Array) -> Array:
    """Log odds of foreground by place: pictures for image-to-3D have the object in the middle."""
    u, v = place[..., 0], place[..., 1]
    return 1.0 - 2.5 * np.maximum(np.abs(u), np.where(v > 0, 0.8, 1.0) * np.abs(v)) ** 4


def _edge_weight(lab: Array) -> Array:
    """Price of a boundary through each pixel: low where the colour changes."""
    step = sum(ndimage.gaussian_gradient_magnitude(lab[..., k], 0.7) ** 2 for k in range(3))
    return 0.15 + 2.5 * np.exp(-step / (2 * step.mean() + 1e-6))


def _otsu(values: Array) -> float:
    histogram, edges = np.histogram(values, 256)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(histogram)
    above = below[-1] - below
    mean = np.cumsum(histogram * centres)
    valid = (below > 0) & (above > 0)
    gap = np.where(valid, mean / np.maximum(below, 1) - (mean[-1] - mean) / np.maximum(above, 1), 0)
    return float(centres[np.argmax(below * above * gap**2)])


def _cut(unary: Array, weight: Array, steps: int = 200) -> Array:
    """The u in [0, 1] minimising ``sum(unary * u + weight * |grad u|)``, by the primal-dual method."""
    u = (unary < 0).astype(np.float32)
    ahead = u
    p = np.zeros((2, *u.shape), dtype=np.float32)
    unary = unary.astype(np.float32)
    size = 0.35
    for _ in range(steps):
        p[0, :-1] += size * (ahead[1:] - ahead[:-1])
        p[1, :, :-1] += size * (ahead[:, 1:] - ahead[:, :-1])
        p /= np.maximum(1.0, np.sqrt(p[0] ** 2 + p[1] ** 2) / weight)
        divergence = p[0] + p[1]
        divergence[1:] -= p[0, :-1]
        divergence[:, 1:] -= p[1, :, :-1]
        new = np.clip(u + size * (divergence - unary), 0, 1)
        ahead = 2 * new - u
        u = new
    return u


def _tidy(mask: Array, behind: Array) -> Array:
    """Keep the main parts and fill what is no true hole.

    A hole shows the background: it is not tiny, and at least half of it is as likely under the background's
    model ``behind`` as all but a fifth of the background itself.
    """
    labels, count = main_parts(mask)
    if count == 0:
        return mask
    kept = labels > 0
    filled = ndimage.binary_fill_holes(kept)
    if filled.all():
        return kept
    likely = behind > np.percentile(behind[~filled], 20) - 0.5
    holes, count = ndimage.label(filled & ~kept)
    index = np.arange(1, count + 1)
    true = (ndimage.sum_labels(mask | True, holes, index) > 0.001 * mask.size) & (
        ndimage.mean(likely, holes, index) > 0.5
    )
    return filled & ~np.isin(holes, index[true])


# -- colour models -----------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Mixture:
    """A Gaussian mixture with full covariances."""

    weights: Array
    means: Array
    covariances: Array

    @staticmethod
    def fit(samples: Array, components: int, rounds: int = 12, floor: float = 3.0) -> _Mixture:
        """Expectation maximisation from evenly spread quantiles of the lightness: no random numbers."""
        samples = samples[:: max(1, len(samples) // 4000)].astype(np.float64)
        order = samples[np.argsort(samples[:, 0] + samples[:, 1:].sum(1), kind="stable")]
        means = order[((np.arange(components) + 0.5) / components * len(order)).astype(int)]
        dims = samples.shape[1]
        spread = np.cov(samples.T) + floor * np.eye(dims)
        mixture = _Mixture(
            np.full(components, 1 / components), means, np.repeat(spread[None] / components, components, 0)
        )
        for _ in range(rounds):
            logs = mixture._log_parts(samples)
            share = np.exp(logs - logs.max(1, keepdims=True))
            share /= share.sum(1, keepdims=True)
            total = share.sum(0) + 1e-3
            means = (share.T @ samples) / total[:, None]
            centred = samples[:, None] - means
            covariances = np.einsum("nk,nki,nkj->kij", share, centred, centred, optimize=True) / total[:, None, None]
            mixture = _Mixture(total / total.sum(), means, covariances + floor * np.eye(dims))
        return mixture

    def marginal(self, dims: slice) -> _Mixture:
        return _Mixture(self.weights, self.means[:, dims], self.covariances[:, dims, dims])

    def _log_parts(self, samples: Array) -> Array:
        """Log of each component's weighted density, ``[N, K]``, for samples ``[N, D]``."""
        dims = samples.shape[1]
        roots = np.linalg.cholesky(np.linalg.inv(self.covariances))
        scale = np.log(np.diagonal(roots, axis1=1, axis2=2)).sum(1) - 0.5 * dims * np.log(2 * np.pi)
        shift = np.einsum("kd,kde->ke", self.means, roots).astype(np.float32)
        white = samples.astype(np.float32) @ np.concatenate(list(roots), axis=1).astype(np.float32)
        white = white.reshape(len(samples), -1, dims) - shift
        distance = np.einsum("nkd,nkd->nk", white, white)
        return (np.log(self.weights) + scale).astype(np.float32) - 0.5 * distance

    def log_density(self, samples: Array) -> Array:
        logs = self._log_parts(samples)
        top = logs.max(1)
        return top + np.log(np.exp(logs - top[:, None]).sum(1))


def _log_conditional(joint: Array, where: Array) -> Array:
    """Log density of the background's colour given the place, learned on ``where``, for every pixel."""
    if where.sum() < 50:
        return np.full(where.shape, -20.0)
    mixture = _Mixture.fit(joint[where], 8)
    flat = joint.reshape(-1, joint.shape[-1])
    both = mixture.log_density(flat)
    place = mixture.marginal(slice(3, 5)).log_density(flat[:, 3:])
    return (both - place).reshape(where.shape)


# -- the edge ----------------------------------------------------------------------------------------------
def refine(rgb: Array, mask: Array) -> Array:
    """Carry a small mask to the full picture ``[H, W, 3]`` with a soft edge: alpha in [0, 1], ``[H, W]``."""
    height, width = rgb.shape[:2]
    soft = Image.fromarray(mask.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    rough = np.clip(np.asarray(soft), 0, 1)
    radius = max(2, round(max(height, width) / WORK_SIDE))
    alpha = _guided(rgb.mean(-1), rough, radius * 2, 1e-3)
    return np.clip((alpha - 0.25) / 0.6, 0, 1)


def _guided(guide: Array, values: Array, radius: int, epsilon: float) -> Array:
    def mean(x: Array) -> Array:
        return ndimage.uniform_filter(x, 2 * radius + 1, mode="nearest")

    m, n = mean(guide), mean(values)
    slope = (mean(guide * values) - m * n) / (mean(guide * guide) - m * m + epsilon)
    return mean(slope) * guide + mean(n - slope * m)
