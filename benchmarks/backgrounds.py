"""How well each background strategy cuts objects out, against the true alpha of rendered meshes.

    vfusion3d render MESHES --output SCENES --layout random --views 2 --resolution 256
    python benchmarks/backgrounds.py SCENES
    python benchmarks/backgrounds.py SCENES --strategies heuristic rembg=isnet-general-use.onnx --json

SCENES is a folder of scenes. Each RGBA picture is put over three procedural backdrops (one plain colour; a
gradient with a vignette; something like a photo: soft cloudy colours of a 1/f spectrum, out-of-focus blobs, a
floor and grain), and every strategy cuts it out again. Figures are means per picture, then per object:
IoU of the masks at 0.5, mean absolute error of the alpha, and the boundary F-measure (the harmonic mean of the
shares of either outline within 0.75 % of the diagonal of the other). A picture in which a strategy finds
nothing counts with an empty mask. `doubted` is the share of pictures whose mask the strategy itself
doubts.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage
from tqdm import tqdm

from vfusion3d.data.scenes import Scene
from vfusion3d.errors import InputImageError, UsageError, VFusion3DError
from vfusion3d.preprocessing import check_strategy, remove_background

BACKDROPS = ("plain", "gradient", "photo")
FIGURES = ("iou", "mae", "boundary_f", "seconds", "doubted", "nothing")


def backdrop(kind: str, height: int, width: int, seed: int) -> np.ndarray:
    """A picture without an object: RGB in [0, 1], ``[H, W, 3]``."""
    random = np.random.default_rng(seed)
    v, u = np.mgrid[0:height, 0:width].astype(np.float64) / max(height, width)
    first, second = random.uniform(0.05, 1.0, (2, 3))
    if kind == "plain":
        return np.broadcast_to(first, (height, width, 3)).copy()
    angle = random.uniform(0, 2 * np.pi)
    along = np.clip(0.5 + (u - 0.5) * np.cos(angle) + (v - 0.5) * np.sin(angle), 0, 1)[..., None]
    vignette = 1 - 0.5 * ((u - 0.5) ** 2 + (v - 0.5) ** 2)[..., None]
    smooth = (first * (1 - along) + second * along) * vignette
    if kind == "gradient":
        return np.clip(smooth, 0, 1)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]) * max(height, width)
    spectrum = np.fft.rfft2(random.normal(size=(3, height, width))) / np.maximum(frequency, 1) ** 1.3
    clouds = np.fft.irfft2(spectrum, s=(height, width)).transpose(1, 2, 0)
    clouds = clouds.mean(-1, keepdims=True) * 0.8 + clouds * 0.4  # mostly lightness, as in photos
    picture = smooth + 0.15 * clouds / clouds.std()
    for _ in range(random.integers(4, 9)):
        x, y, size = random.uniform(0, 1), random.uniform(0, 1), random.uniform(0.05, 0.2)
        share = np.clip((1 - np.hypot(u - x, v - y) / size) * 5, 0, 1)[..., None] * random.uniform(0.3, 0.8)
        picture = picture * (1 - share) + random.uniform(0, 1, 3) * share
    floor = np.clip((v - random.uniform(0.6, 0.85)) * 30, 0, 1)[..., None] * 0.6
    picture = picture * (1 - floor) + random.uniform(0.1, 0.9, 3) * floor
    return np.clip(picture + random.normal(0, 0.015, picture.shape), 0, 1)


def composite(rgba: np.ndarray, behind: np.ndarray) -> Image.Image:
    """Straight RGBA uint8 ``[H, W, 4]`` over a backdrop, as an opaque picture."""
    alpha = rgba[..., 3:] / 255
    pixels = rgba[..., :3] / 255 * alpha + behind * (1 - alpha)
    return Image.fromarray((pixels * 255 + 0.5).astype(np.uint8)).convert("RGBA")


def boundary_f(found: np.ndarray, truth: np.ndarray) -> float:
    """F-measure of two masks' outlines with a tolerance of 0.75 % of the diagonal; 1 if neither has one."""
    outlines = [mask & ~ndimage.binary_erosion(mask, border_value=1) for mask in (found, truth)]
    if not outlines[0].any() or not outlines[1].any():
        return float(not outlines[0].any() and not outlines[1].any())
    tolerance = 0.0075 * np.hypot(*truth.shape)
    near = [ndimage.distance_transform_edt(~outline) <= tolerance for outline in outlines]
    precision, recall = float(near[1][outlines[0]].mean()), float(near[0][outlines[1]].mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def score(picture: Image.Image, truth: np.ndarray, strategy: str, weights: str | None) -> dict[str, float]:
    """Figures of one strategy on one picture, whose true alpha is in [0, 1], ``[H, W]``."""
    started = time.perf_counter()
    doubted, nothing = False, False
    try:
        cutout = remove_background(picture, strategy=strategy, weights=weights)
        alpha, doubted = np.asarray(cutout.rgba.getchannel("A"), dtype=np.float64) / 255, cutout.doubtful
    except InputImageError:
        alpha, nothing = np.zeros_like(truth), True
    seconds = time.perf_counter() - started
    found, true = alpha > 0.5, truth > 0.5
    return {
        "iou": float((found & true).sum() / max((found | true).sum(), 1)),
        "mae": float(np.abs(alpha - truth).mean()),
        "boundary_f": boundary_f(found, true),
        "seconds": seconds,
        "doubted": float(doubted),
        "nothing": float(nothing),
    }


def evaluate(scene: Scene, number: int, seed: int, strategies: dict[str, str | None]) -> list[dict[str, Any]]:
    """A row per view, backdrop and strategy of one scene."""
    rows = []
    for view in range(len(scene)):
        rgba = scene.pixels(view)
        truth = rgba[..., 3] / 255
        for k, kind in enumerate(BACKDROPS):
            behind = backdrop(kind, scene.height, scene.width, seed + (number * 1000 + view) * len(BACKDROPS) + k)
            picture = composite(rgba, behind)
            for strategy, weights in strategies.items():
                where = {"object": scene.folder.name, "view": view, "backdrop": kind, "strategy": strategy}
                rows.append({**where, **score(picture, truth, strategy, weights)})
    return rows


def averages(rows: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Means per picture, then per object: strategy -> backdrop -> figure."""
    grouped: dict[tuple[str, str], dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        grouped[row["strategy"], row["backdrop"]][row["object"]].append(row)
    table: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    for (strategy, kind), objects in grouped.items():
        table[strategy][kind] = {
            figure: float(np.mean([np.mean([row[figure] for row in views]) for views in objects.values()]))
            for figure in FIGURES
        }
    return table


def parse_strategies(words: list[str]) -> dict[str, str | None]:
    """``heuristic`` or ``rembg=FILE`` -> strategy and weight file."""
    found: dict[str, str | None] = {}
    for word in words:
        strategy, _, weights = word.partition("=")
        if strategy in ("auto", "alpha"):
            raise UsageError(f"Strategy '{strategy}' cannot be measured: the pictures are opaque; choose another.")
        check_strategy(strategy, weights or None)
        found[strategy] = weights or None
    return found


def main() -> int:
    """Measure and print; 0, or 2 if there is nothing to measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", help="folder of scenes written by `vfusion3d render`")
    parser.add_argument(
        "--strategies",
        nargs="+",
        default=["heuristic"],
        metavar="NAME[=FILE]",
        help="heuristic, rembg=ONNX_FILE, birefnet=ONNX_FILE (default: heuristic)",
    )
    parser.add_argument("--limit", type=int, help="measure only the first N scenes")
    parser.add_argument("--seed", type=int, default=0, help="seed of the backdrops (default: 0)")
    parser.add_argument("--json", action="store_true", help="print one JSON document with a row per picture")
    arguments = parser.parse_args()
    try:
        strategies = parse_strategies(arguments.strategies)
        folders = sorted(path.parent for path in Path(arguments.scenes).glob("*/transforms.json"))[: arguments.limit]
        if not folders:
            print(f"backgrounds.py: no scene in {arguments.scenes}; see --help.", file=sys.stderr)
            return 2
        rows = []
        for number, folder in enumerate(tqdm(folders, unit="object")):
            rows += evaluate(Scene.load(folder), number, arguments.seed, strategies)
    except VFusion3DError as error:
        print(f"backgrounds.py: {error}", file=sys.stderr)
        return 2
    means = averages(rows)
    if arguments.json:
        print(json.dumps({"objects": len(folders), "seed": arguments.seed, "means": means, "rows": rows}, indent=1))
        return 0
    views = len(rows) // len(strategies) // len(BACKDROPS)
    print(f"{len(folders)} objects, {views} views, backdrops of seed {arguments.seed}")
    print(f"{'strategy':<12}{'backdrop':<10}{'IoU':>7}{'MAE':>8}{'edge F':>8}{'s':>7}{'doubted':>9}{'nothing':>9}")
    for strategy, kinds in means.items():
        for kind, m in kinds.items():
            print(
                f"{strategy:<12}{kind:<10}{m['iou']:>7.3f}{m['mae']:>8.4f}{m['boundary_f']:>8.3f}{m['seconds']:>7.2f}"
                f"{m['doubted']:>8.0%}{m['nothing']:>9.0%}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
