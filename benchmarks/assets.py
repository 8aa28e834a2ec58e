"""How much an exported asset looks like the volume it comes from.

    python benchmarks/assets.py PICTURE... --model nano

Each picture is reconstructed, and its mesh written as GLB with vertex colours and with a texture, read back, and drawn
unlit by VTK from a turntable's cameras, beside the volume's render. `psnr` is over the pixels that both cover
(opacity > 0.99), where only colour can differ; `foreground_psnr` is over those that either covers (> 0.5); `ceiling` is
the same figure of an opaque object with the volume's own silhouettes and colours, which a mesh can hardly pass: where a
volume is foggy at its edges, no mesh is like it. `iou` compares the silhouettes. All are means over views.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate
from tqdm import tqdm

from vfusion3d import ImageTo3DPipeline
from vfusion3d.cameras import Cameras
from vfusion3d.errors import VFusion3DError
from vfusion3d.meshes import VtkRenderer, read_mesh, write_mesh
from vfusion3d.metrics import foreground_psnr, mask_iou
from vfusion3d.models import Triplanes
from vfusion3d.rendering.isosurface import SurfaceMesh
from vfusion3d.rendering.turntable import turntable_cameras


@torch.no_grad()
def compare(scene: Triplanes, mesh: SurfaceMesh, cameras: Cameras, size: int) -> dict[str, float | None]:
    """Figures of one object's mesh against its volume, from cameras ``[V]``; None where no pixel counts."""
    volume = scene.render(cameras.unsqueeze(0), size, size)
    wanted, opacity = volume.rgb[0].clamp(0, 1), volume.opacity[0]
    with tempfile.TemporaryDirectory() as folder:
        write_mesh(mesh, Path(folder) / "mesh.glb")
        asset = read_mesh(Path(folder) / "mesh.glb")
    renderer = VtkRenderer("unlit")
    views = torch.from_numpy(renderer.render(asset, cameras, size, size)).permute(0, 3, 1, 2) / 255
    renderer.close()
    mask = views[:, 3:]
    shown = views[:, :3] * mask + 1 - mask

    own = ((wanted - (1 - opacity)) / opacity.clamp_min(1e-6)).clamp(0, 1)
    solid = avg_pool2d((interpolate(opacity, scale_factor=4, mode="bilinear") > 0.5).float(), 4)
    best = own * solid + 1 - solid

    def over(region: Tensor, picture: Tensor = shown) -> float | None:
        mean = float(foreground_psnr(picture, wanted, region).nanmean())
        return None if math.isnan(mean) else mean

    return {
        "psnr": over((mask > 0.99) & (opacity > 0.99)),
        "foreground_psnr": over((mask > 0.5) | (opacity > 0.5)),
        "ceiling": over((solid > 0.5) | (opacity > 0.5), best),
        "iou": float(mask_iou(mask, opacity).mean()),
    }


def main() -> int:
    """Measure and print; 0, or 2 if something cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="+", metavar="PICTURE", help="picture files")
    parser.add_argument("--model", default="nano", help="shipped name, folder or owner/name on the hub (nano)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (auto)")
    parser.add_argument("--resolution", type=int, default=128, help="lattice points a side for the mesh (128)")
    parser.add_argument("--faces", type=int, default=20000, help="triangles at most (20000)")
    parser.add_argument("--texture-size", type=int, default=1024, help="side of the texture in texels (1024)")
    parser.add_argument("--views", type=int, default=8, help="views compared (8)")
    parser.add_argument("--size", type=int, default=192, help="side of a view in pixels (192)")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    try:
        pipeline = ImageTo3DPipeline.from_pretrained(arguments.model, arguments.device)
        cameras = turntable_cameras(arguments.views)
        for picture in tqdm(arguments.pictures, desc="assets", unit="picture", file=sys.stderr):
            [result] = pipeline(picture)
            mesh = result.mesh(arguments.resolution, faces=arguments.faces)
            textured = result.triplanes.textured(mesh, size=arguments.texture_size)
            rows.append(
                {
                    "picture": str(picture),
                    "vertex_colours": compare(result.triplanes, mesh, cameras, arguments.size),
                    "texture": compare(result.triplanes, textured, cameras, arguments.size),
                    "mesh": textured.report(),
                }
            )
    except VFusion3DError as error:
        print(f"assets.py: {error}", file=sys.stderr)
        return 2
    if arguments.json:
        print(json.dumps({"model": arguments.model, "results": rows}))
        return 0
    print(f"{'':32}{'psnr':>8}{'foreground_psnr':>18}{'ceiling':>9}{'iou':>8}")
    for row in rows:
        for kind in ("vertex_colours", "texture"):
            figures = row[kind]
            name = f"{Path(row['picture']).stem[:15]} {kind}"
            shown = ["n/a" if value is None else f"{value:.4g}" for value in figures.values()]
            print(f"{name:32}{shown[0]:>8}{shown[1]:>18}{shown[2]:>9}{shown[3]:>8}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
