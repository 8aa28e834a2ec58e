"""Non-input views of objects the model never saw, with the floors any method has to beat.

    vfusion3d render MESHES --output SCENES --layout benchmark --resolution 128
    python benchmarks/held_out.py SCENES --model nano

SCENES is a folder of scenes; those named in the checkpoint's `held_out.txt` are scored, with --all also the
others, apart. The input is view 0 with its true camera, recentred as at test time. Figures are means per
picture, then per object, over the other views, on white. Two floors stand beside the model: an all-white
picture, and the input picture pasted into every view. Foreground PSNR is over the union of the true mask
and the method's own.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from vfusion3d import TriplaneReconstructor
from vfusion3d.data.held_out import names_hash
from vfusion3d.data.scenes import Scene
from vfusion3d.errors import SceneError, VFusion3DError
from vfusion3d.metrics import foreground_psnr, mask_iou, psnr
from vfusion3d.models.checkpoints import held_out_names
from vfusion3d.training.patches import recentre_inputs

BORDER = 0.1


def score(prediction: Tensor, opacity: Tensor, target: Tensor, mask: Tensor) -> dict[str, float]:
    """Figures of V views of one object: pictures [V, 3, H, W] on white, masks [V, 1, H, W]."""
    region = (mask > 0.5) | (opacity > 0.5)
    return {
        "psnr": float(psnr(prediction, target).mean()),
        "foreground_psnr": float(foreground_psnr(prediction, target, region).nanmean()),
        "iou": float(mask_iou(opacity, mask).mean()),
    }


@torch.no_grad()
def evaluate(model: TriplaneReconstructor, scene: Scene) -> tuple[dict[str, dict[str, float]], Tensor]:
    """Figures of the model and the floors on one scene, and a strip of pictures (truth above render)."""
    rgba = scene.images().to(model.device)
    cameras = scene.cameras.to(model.device)
    mask = rgba[:, 3:]
    views = rgba[:, :3] + 1 - mask
    images, camera = recentre_inputs(
        rgba[:1], cameras[:1], model.config.image_size, torch.full((1,), BORDER, device=model.device)
    )
    rendered = model(images, camera).render(cameras[1:].unsqueeze(0), scene.height, scene.width, skip_empty=True)
    target, solid = views[1:], mask[1:]
    rgb, opacity = rendered.rgb[0].clamp(0, 1), rendered.opacity[0]
    pasted, pasted_mask = views[:1].expand_as(target), mask[:1].expand_as(solid)
    figures = {
        "model": score(rgb, opacity, target, solid),
        "input pasted": score(pasted, pasted_mask, target, solid),
        "all white": score(torch.ones_like(target), torch.zeros_like(solid), target, solid),
    }
    shown = list(range(1, len(target), max(1, len(target) // 4)))[:4]
    truth = torch.cat([views[0], *target[shown]], -1)
    ours = torch.cat([torch.ones_like(views[0]), *rgb[shown]], -1)
    return figures, torch.cat([truth, ours], -2).cpu()


def averages(rows: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Means over objects, per method and figure."""
    first = next(iter(rows.values()))
    return {
        method: {key: sum(row[method][key] for row in rows.values()) / len(rows) for key in figures}
        for method, figures in first.items()
    }


def main() -> int:
    """Score, print and draw; 0, or 2 if there is nothing to score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", help="folder of scenes written by `vfusion3d render --layout benchmark`")
    parser.add_argument("--model", default="nano", help="shipped name, folder or owner/name (default: nano)")
    parser.add_argument(
        "--all", action="store_true", help="also score the objects the model saw, in a table of their own"
    )
    parser.add_argument("--limit", type=int, help="score only the first N scenes")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="score only these scenes, in this order")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ... (default: cpu)")
    parser.add_argument("--sheet", help="PNG of truth and renders to write")
    parser.add_argument("--json", action="store_true", help="print one JSON document with per-object rows")
    arguments = parser.parse_args()
    try:
        model = TriplaneReconstructor.from_pretrained(arguments.model, device=arguments.device)
        names = held_out_names(arguments.model)
        folders = sorted(path.parent for path in Path(arguments.scenes).glob("*/transforms.json"))
        folders = [folder for folder in folders if arguments.all or folder.name in names]
        if arguments.only:
            by_name = {folder.name: folder for folder in folders}
            unknown = sorted(set(arguments.only) - by_name.keys())
            if unknown:
                raise SceneError(
                    f"No scene to score in {arguments.scenes} is named {', '.join(unknown)}; check --only."
                )
            folders = [by_name[name] for name in arguments.only]
        folders = folders[: arguments.limit]
        if not folders:
            print(f"held_out.py: no scene to score in {arguments.scenes}; see --help.", file=sys.stderr)
            return 2
        rows, strips = {}, []
        for folder in tqdm(folders, unit="object"):
            scene = Scene.load(folder)
            if scene.info.layout != "benchmark":
                raise SceneError(f"The scene {folder} was not rendered with --layout benchmark; render it again.")
            rows[folder.name], strip = evaluate(model, scene)
            strips.append(strip)
    except VFusion3DError as error:
        print(f"held_out.py: {error}", file=sys.stderr)
        return 2
    tables = {
        "unseen": {name: row for name, row in rows.items() if name in names},
        "seen": {name: row for name, row in rows.items() if name not in names},
    }
    means = {kind: averages(part) for kind, part in tables.items() if part}
    if arguments.sheet:
        columns = 3
        strips += [torch.ones_like(strips[0])] * (-len(strips) % columns)
        lines = [torch.cat(strips[k : k + columns], -1) for k in range(0, len(strips), columns)]
        picture = torch.cat(lines, -2).mul(255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(picture).save(arguments.sheet)
    digest = names_hash(names)
    if arguments.json:
        document = {"model": arguments.model, "held_out_sha256": digest, "resolution": scene.height, "means": means}
        print(json.dumps({**document, "rows": tables}, indent=1))
        return 0
    print(f"{arguments.model}, {scene.height} px, non-input views; held-out list {digest[:12]}")
    for kind, table in means.items():
        print(f"{f'{len(tables[kind])} {kind} objects':<20}{'PSNR':>8}{'fg PSNR':>10}{'IoU':>8}")
        for method, m in table.items():
            print(f"{method:<20}{m['psnr']:>8.2f}{m['foreground_psnr']:>10.2f}{m['iou']:>8.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
