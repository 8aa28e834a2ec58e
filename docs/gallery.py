"""A page that shows what becomes of pictures before a model sees them: inputs, cut-outs, warnings and failures.

    python docs/gallery.py PICTURES --output gallery
    python docs/gallery.py PICTURES --output gallery --background rembg --background-weights isnet-general-use.onnx

PICTURES are files, or folders of which every file is taken. The output folder gets index.html, its thumbnails
and sheet.png (the same in one picture). No model is run; the pictures stay where they are.
"""

from __future__ import annotations

import argparse
import html
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw
from tqdm import tqdm

from vfusion3d.alpha import straight_pixels
from vfusion3d.errors import InputImageError, UsageError, VFusion3DError
from vfusion3d.outputs import result_folder
from vfusion3d.preprocessing import BORDER, STRATEGIES, check_strategy, read_picture, recentre, remove_background
from vfusion3d.rendering.turntable import on_checkerboard

STYLE = """body{font:15px/1.4 sans-serif;margin:2em;color:#222}
figure{display:inline-block;vertical-align:top;margin:0 1em 2em 0}
figcaption{max-width:46em}img{border:1px solid #ddd;margin-right:4px}.warning{color:#a15c00}.failure{color:#b00020}"""


@dataclass(frozen=True)
class Entry:
    """One picture of the gallery: thumbnails (input, and if it went well cut-out and recentred), method and words."""

    path: Path
    thumbnails: list[Image.Image]
    method: str
    warnings: tuple[str, ...] = ()
    failure: str | None = None


def find_pictures(paths: list[str]) -> list[Path]:
    """Files as they are named, and all visible files of folders but tables."""
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
            found += [file for file in inside if file.suffix.lower() not in (".csv", ".md", ".txt", ".json")]
        else:
            found.append(path)
    if not found:
        raise UsageError(f"There is no picture in {', '.join(paths)}; name files or folders of pictures.")
    return found


def entry(path: Path, arguments: argparse.Namespace) -> Entry:
    """Prepare one picture, or say why it cannot be."""
    thumbnails: list[Image.Image] = []
    try:
        picture = read_picture(path)
        thumbnails.append(on_checkerboard(picture, arguments.thumbnail))
        cutout = remove_background(picture, f"Picture '{path}'", arguments.background, arguments.background_weights)
        thumbnails.append(on_checkerboard(cutout.rgba, arguments.thumbnail))
        rgba, _ = recentre(cutout.rgba, arguments.thumbnail, arguments.border, f"Picture '{path}'")
        white = Image.new("RGBA", (arguments.thumbnail,) * 2, "white")
        thumbnails.append(Image.alpha_composite(white, Image.fromarray(straight_pixels(rgba))).convert("RGB"))
    except InputImageError as error:
        return Entry(path, thumbnails, "", failure=str(error))
    return Entry(path, thumbnails, cutout.method, cutout.warnings)


def page(entries: list[Entry], names: list[list[str]], arguments: argparse.Namespace) -> str:
    """The HTML page; ``names`` are the thumbnails' files."""
    failed = sum(entry.failure is not None for entry in entries)
    warned = sum(bool(entry.warnings) for entry in entries)
    lines = [
        f"<!doctype html><meta charset='utf-8'><title>Pictures</title><style>{STYLE}</style>",
        f"<h1>{len(entries)} pictures</h1><p>Background: {html.escape(arguments.background)}. "
        f"Each as it was given, cut out, and recentred with a border of {arguments.border:g}. "
        f"{warned} with a warning, {failed} failed.</p>",
    ]
    for entry, files in zip(entries, names, strict=True):
        pictures = "".join(f"<img src='{html.escape(name)}' alt=''>" for name in files)
        words = [f"<b>{html.escape(entry.path.name)}</b> {html.escape(entry.method)}"]
        words += [f"<div class='warning'>{html.escape(warning)}</div>" for warning in entry.warnings]
        if entry.failure is not None:
            words.append(f"<div class='failure'>{html.escape(entry.failure)}</div>")
        lines.append(f"<figure>{pictures}<figcaption>{''.join(words)}</figcaption></figure>")
    return "\n".join(lines) + "\n"


def sheet(entries: list[Entry], side: int, columns: int = 4) -> Image.Image:
    """All entries in one picture, each with its number; warnings have an orange line, failures a red one."""
    width, height = 3 * side + 8, side + 22
    rows = -(-len(entries) // columns)
    picture = Image.new("RGB", (columns * width, rows * height), "white")
    draw = ImageDraw.Draw(picture)
    for number, entry in enumerate(entries):
        row, column = divmod(number, columns)
        left, top = column * width, row * height
        for k, thumbnail in enumerate(entry.thumbnails):
            picture.paste(thumbnail.resize((side, side), Image.Resampling.BOX), (left + k * side, top + 14))
        colour = "red" if entry.failure is not None else "darkorange" if entry.warnings else "black"
        label = f"{number} {entry.path.name[:40]}".encode("latin-1", "replace").decode("latin-1")
        draw.text((left + 2, top + 1), label, fill=colour)
        draw.line((left, top + 16 + side, left + 3 * side - 1, top + 16 + side), fill=colour, width=2)
    return picture


def main() -> int:
    """Write the gallery; 0 also if pictures failed: showing them is what it is for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="+", metavar="PICTURE_OR_FOLDER", help="picture files or folders of them")
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="folder for index.html; an older one is replaced"
    )
    parser.add_argument("--background", default="auto", choices=STRATEGIES, help="how objects are cut out (auto)")
    parser.add_argument("--background-weights", metavar="FILE", help="ONNX file of rembg or birefnet")
    parser.add_argument("--border", type=float, default=BORDER, help=f"free share on each side ({BORDER:g})")
    parser.add_argument("--thumbnail", type=int, default=192, metavar="PIXELS", help="side of the thumbnails (192)")
    arguments = parser.parse_args()
    started = time.perf_counter()
    try:
        check_strategy(arguments.background, arguments.background_weights)
        pictures = find_pictures(arguments.pictures)
        with result_folder(arguments.output, overwrite=True, marker="index.html") as folder:
            entries = [entry(path, arguments) for path in tqdm(pictures, unit="picture")]
            (folder / "thumbnails").mkdir()
            names = []
            for number, one in enumerate(entries):
                kinds = ("input", "cutout", "recentred")[: len(one.thumbnails)]
                names.append([f"thumbnails/{number:03d}_{kind}.png" for kind in kinds])
                for name, thumbnail in zip(names[-1], one.thumbnails, strict=True):
                    thumbnail.save(folder / name)
            sheet(entries, arguments.thumbnail // 2).save(folder / "sheet.png")
            (folder / "index.html").write_text(page(entries, names, arguments), encoding="utf-8")
    except VFusion3DError as error:
        print(f"gallery.py: {error}", file=sys.stderr)
        return 2
    failed = [one for one in entries if one.failure is not None]
    for one in failed:
        print(one.failure, file=sys.stderr)
    warned = sum(bool(one.warnings) for one in entries)
    seconds = time.perf_counter() - started
    counts = f"{len(entries)} pictures, {warned} with a warning, {len(failed)} failed"
    print(f"{Path(arguments.output) / 'index.html'}: {counts}, in {seconds:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
