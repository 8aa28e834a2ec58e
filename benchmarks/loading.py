"""How fast training pictures come off the disk, and what limits it.

    python benchmarks/loading.py
    python benchmarks/loading.py SHARDS --resolution 384 --json
    python benchmarks/loading.py --rows 2700000

SHARDS is a shard set; without one, procedural orbits are packed into a temporary folder first (`--items`, `--size`).
Figures, for batches of `--batch-size` items of `--views` random pictures at `--resolution`:

- `samples_per_second` for 0, 1 and 2 workers: whole batches through the loader, conversion for the device included;
- `stages`: processor milliseconds per sample for reading bytes, decoding, collating (stacking views and samples, which
  is where a worker hands over) and, on the device's side, converting and resizing; `limit` is the largest of them;
- `obvious`: the same for a data set as one would write it first: scene folders of PNG files, opened one at a time,
  converted to float, premultiplied and resized in the worker;
- `ratio`: processor milliseconds per sample of the obvious loader over ours: of what a worker does (`worker_ratio`,
  which decides samples per second where a GPU converts) and of everything, conversion included (`total_ratio`).

With `--rows N` instead: what opening a table of N items of 16 frames costs, measured in a process of its own that has
opened a small one before: seconds, resident MiB that it adds (`resident_mib`), and those at its peak (`peak_mib`).

Processor time, the best of `--repeats` passes in one run, so that a busy machine matters little; no pixel cache.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, default_collate
from tqdm import tqdm

from vfusion3d.data import ShardSet, ShardWriter, SyntheticDataModule
from vfusion3d.data.packing import procedural_items, procedural_rig
from vfusion3d.data.resize import area_resize
from vfusion3d.data.shard_writer import COLUMNS
from vfusion3d.data.shards import ITEMS, metadata
from vfusion3d.data.views_dataset import ViewsDataset, delivered
from vfusion3d.errors import UsageError, VFusion3DError


class ObviousDataset(Dataset[dict[str, Tensor]]):
    """Folders of PNG files, read one at a time."""

    def __init__(self, folders: list[Path], views: int, resolution: int) -> None:
        self.folders, self.views, self.resolution = folders, views, resolution

    def __len__(self) -> int:
        return len(self.folders)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        files = sorted(self.folders[index].glob("*.png"))
        chosen = torch.randperm(len(files), generator=torch.Generator().manual_seed(index))[: self.views]
        images = []
        for k in chosen.tolist():
            rgba = torch.from_numpy(np.array(Image.open(files[k]).convert("RGBA"))).permute(2, 0, 1).float() / 255
            image = torch.cat([rgba[:3] * rgba[3:], rgba[3:]])
            images.append(area_resize(image, self.resolution, self.resolution))
        return {"images": torch.stack(images)}


def unpack(shards: ShardSet, count: int, folder: Path) -> list[Path]:
    """The first items' frames as PNG files, as Pillow writes them by default."""
    folders = []
    for item in range(count):
        folders.append(folder / f"{item:06d}")
        folders[-1].mkdir(parents=True)
        for frame, picture in enumerate(shards.pictures(item, range(int(shards.counts[item])))):
            picture.save(folders[-1] / f"{frame:03d}.png")
    return folders


def milliseconds(work: Callable[[], Any], samples: int, repeats: int) -> float:
    """Processor milliseconds per sample, the best of several passes."""
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best * 1e3 / samples


def throughput(data: SyntheticDataModule, repeats: int) -> float:
    """Samples per second of a warm loader, the best of several epochs."""
    loader, best = data.train_dataloader(), 0.0
    for epoch in range(repeats + 1):
        loader.sampler.set_epoch(epoch)
        start, count = time.perf_counter(), 0
        for batch in loader:
            count += len(data.on_after_batch_transfer(batch, 0)["images"])
        if epoch:  # workers start in the first
            best = max(best, count / (time.perf_counter() - start))
    return best


def measure(location: str, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All figures."""
    shards = ShardSet(location)
    count = min(args.items, len(shards))
    if count < args.batch_size:
        raise UsageError(f"Argument `batch_size` ({args.batch_size}) is larger than the set's {count} items.")
    count -= count % args.batch_size
    size = args.resolution
    dataset = ViewsDataset([shards], args.views, size, seed=0, cache_gib=0)
    frames = torch.randperm(int(shards.counts.min()), generator=torch.Generator().manual_seed(0))[: args.views].tolist()

    def ours() -> list[Any]:
        groups = range(0, count, args.batch_size)
        return [default_collate([dataset[(0, s)] for s in range(g, g + args.batch_size)]) for g in groups]

    obvious_data = ObviousDataset(unpack(shards, count, folder), args.views, size)

    def obvious() -> None:
        for group in range(0, count, args.batch_size):
            default_collate([obvious_data[s] for s in range(group, group + args.batch_size)])

    steps: dict[str, Callable[[], Any]] = {
        "read": lambda: [shards.members(item, frames) for item in range(count)],
        "decode": lambda: [shards.pixels(item, frames) for item in range(count)],
        "worker": ours,
        "obvious": obvious,
    }
    batches = ours()
    steps["convert_and_resize"] = lambda: [delivered(batch, size) for batch in batches]
    cost = dict.fromkeys(steps, float("inf"))
    for _ in tqdm(range(args.repeats), desc="stages", file=sys.stderr):  # in turns, so that all meet the same machine
        for name, work in steps.items():
            cost[name] = min(cost[name], milliseconds(work, count, 1))
    stages = {
        "read": cost["read"],
        "decode": cost["decode"] - cost["read"],
        "collate": cost["worker"] - cost["decode"],
        "convert_and_resize": cost["convert_and_resize"],
    }
    speeds = {}
    for workers in tqdm((0, 1, 2), desc="loaders", file=sys.stderr):
        data = SyntheticDataModule(
            location,
            batch_size=args.batch_size,
            views=args.views,
            resolution=size,
            samples_per_epoch=count,
            num_workers=workers,
            cache_gib=0,
        )
        data.setup("fit")
        speeds[str(workers)] = throughput(data, args.repeats)
    return {
        "set": location,
        "items": count,
        "views": args.views,
        "picture": list(shards.size or ()),
        "resolution": size,
        "bytes_per_picture": round(float(np.mean(shards.places.sizes))),
        "samples_per_second": speeds,
        "stages": stages,
        "limit": max(stages, key=lambda name: stages[name]),
        "worker_ms": cost["worker"],
        "obvious_ms": cost["obvious"],
        "worker_ratio": cost["obvious"] / cost["worker"],
        "total_ratio": cost["obvious"] / (cost["worker"] + cost["convert_and_resize"]),
    }


def write_table(folder: Path, rows: int) -> None:
    """A shard set's table of generated rows, whose shards are empty files of the right length."""
    rig, frames, per_shard = procedural_rig(), 16, 4096
    schema = pa.schema(list(COLUMNS.items()), metadata=metadata(rig))
    generator = np.random.default_rng(0)
    with pq.ParquetWriter(folder / ITEMS, schema, compression="zstd") as writer:
        for start in tqdm(range(0, rows, per_shard), desc="rows", file=sys.stderr):
            count, name = min(per_shard, rows - start), f"shard-{start // per_shard:06d}.tar"
            sizes = generator.integers(20_000, 60_000, count * frames, dtype=np.int32)
            steps = -(-sizes.astype(np.int64) // 512) * 512 + 512
            offsets, ends = np.cumsum(steps) - steps + 512, np.arange(0, count * frames + 1, frames, dtype=np.int32)
            with open(folder / name, "wb") as shard:
                shard.truncate(int(offsets[-1] + sizes[-1]))
            numbers = np.arange(start, start + count)
            columns = {
                "key": pa.array([f"procedural_{number:08d}" for number in numbers]),
                "shard": pa.array([name] * count).dictionary_encode(),
                "offsets": pa.ListArray.from_arrays(ends, offsets),
                "sizes": pa.ListArray.from_arrays(ends, sizes),
                "height": pa.array(np.full(count, 512, np.int32)),
                "width": pa.array(np.full(count, 512, np.int32)),
                "elevation": pa.array(generator.uniform(0, 0.78, count).astype(np.float32)),
            }
            arrays = [columns.get(field.name, pa.nulls(count, field.type)).cast(field.type) for field in schema]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def memory_of(folder: str, small: str, query: str | None) -> dict[str, Any]:
    """What opening a set costs this process, which is to have opened a small one before."""
    ShardSet(small, query)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    start = time.perf_counter()
    opened = ShardSet(folder, query)
    seconds = time.perf_counter() - start
    # Meanwhile the process may have given back more than a small set takes.
    resident, peak = (max(0.0, _status(name) - before) for name in ("VmRSS", "VmHWM"))
    return {
        "rows": len(opened),
        "query": query,
        "seconds": seconds,
        "resident_mib": resident,
        "peak_mib": peak,
        "mib_before": before,
    }


def _status(name: str) -> float:
    """A figure of this process in MiB (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise UsageError(f"This system does not tell {name}; `--rows` needs Linux.")


def memory(rows: int, folder: Path) -> list[dict[str, Any]]:
    """`memory_of` a table of so many rows, all of them and those that a query chooses."""
    results = []
    for name, count in (("small", 1000), ("large", rows)):
        (folder / name).mkdir()
        write_table(folder / name, count)
    for query in (None, "elevation > 0.2"):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            results.append(pool.apply(memory_of, (str(folder / "large"), str(folder / "small"), query)))
    return results


def report(result: dict[str, Any]) -> str:
    """The figures in words."""
    speeds = ", ".join(f"{speed:.1f} ({workers} workers)" for workers, speed in result["samples_per_second"].items())
    stages = ", ".join(f"{name.replace('_', ' ')} {ms:.2f}" for name, ms in result["stages"].items())
    return (
        f"{result['items']} items, {result['views']} pictures of {result['picture']} at {result['resolution']}\n"
        f"samples per second: {speeds}\n"
        f"processor ms per sample: {stages}; limited by: {result['limit'].replace('_', ' ')}\n"
        f"one PNG at a time, float in the worker: {result['obvious_ms']:.2f} ms per sample in the worker, ours "
        f"{result['worker_ms']:.2f}: {result['worker_ratio']:.2f}x, with conversion {result['total_ratio']:.2f}x"
    )


def memory_report(result: dict[str, Any]) -> str:
    """What a table costs, in words."""
    return (
        f"{result['rows']} items of 16 frames ({result['query'] or 'all rows'}): opened in {result['seconds']:.1f} s, "
        f"{result['resident_mib']:.0f} MiB resident and {result['peak_mib']:.0f} at the peak, beside the "
        f"{result['mib_before']:.0f} MiB of the process"
    )


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", nargs="?", metavar="SHARDS", help="a shard set; by default procedural orbits")
    parser.add_argument("--items", type=int, default=32, help="items to use, and to make without SHARDS")
    parser.add_argument("--size", type=int, default=512, help="side of the pictures made without SHARDS")
    parser.add_argument("--resolution", type=int, default=384)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rows", type=int, help="instead measure what opening a table of so many items costs")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    args = parser.parse_args()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            if args.rows is not None:
                results = memory(args.rows, Path(temporary))
                print(json.dumps(results) if args.json else "\n".join(map(memory_report, results)))
                return 0
            location = args.shards
            if location is None:
                rig = procedural_rig()
                items = procedural_items(args.items, args.size, rig, False, 0, ())
                location = str(Path(temporary, "shards"))
                ShardWriter(location, rig).write(tqdm(items, desc="pack", total=args.items, file=sys.stderr))
            result = measure(location, args, Path(temporary, "folders"))
    except VFusion3DError as error:
        print(f"loading: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result) if args.json else report(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
