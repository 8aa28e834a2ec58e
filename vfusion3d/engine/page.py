"""A self-contained HTML page: text, tables, histograms and pictures in one file, readable on light and on dark."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from vfusion3d.engine.stage import ItemError
from vfusion3d.engine.stages.pictures import decode_picture

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --paper: #fcfcfb; --soft: #5c6370; --line: #d9dce1;
  --bar: #3d6fb4; --check: #e6e8eb; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e6ea; --paper: #16181c; --soft: #9aa2af; --line: #363b44;
  --bar: #7aa7e6; --check: #2a2e35; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 66rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); padding-bottom: .2rem; }
h3 { margin: 1.5rem 0 .3rem; } p, figcaption, summary { max-width: 46rem; }
.soft, figcaption, th { color: var(--soft); } figcaption { font-size: .85rem; overflow-wrap: anywhere; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid var(--line); }
th { font-weight: 500; } td.number, th.number { text-align: right; }
figure { margin: .6rem 0; } img { max-width: 100%; height: auto; vertical-align: top; border-radius: 3px;
  background: repeating-conic-gradient(var(--check) 0 25%, var(--paper) 0 50%) 0 0 / 16px 16px; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem 2rem; } svg { display: block; } svg text { fill: var(--soft);
  font-size: 11px; } svg rect { fill: var(--bar); } svg line { stroke: var(--line); }
pre { overflow-x: auto; font-size: .85rem; border: 1px solid var(--line); border-radius: 3px; padding: .6rem; }
"""
_WIDTH, _HEIGHT, _FOOT = 300, 110, 16  # of a histogram in pixels


class Page:
    """Collects what a page shows, in order; text is escaped.

    Args:
        title: Its heading.

    Example:
        >>> page = Page("A & B")
        >>> page.table(["object", "dB"], [["chair", 17.25]])
        >>> "A &amp; B" in page.html() and "17.25" in page.html()
        True
    """

    def __init__(self, title: str) -> None:
        self.title, self.level = title, 2
        self._parts: list[str] = []

    def heading(self, text: str, level: int | None = None) -> None:
        """A section (2) or a part of one (3); that of ``self.level`` by default."""
        level = level or self.level
        self._parts.append(f"<h{level}>{html.escape(text)}</h{level}>")

    def text(self, text: str, soft: bool = False) -> None:
        """A paragraph."""
        self._parts.append(f"<p{' class=soft' if soft else ''}>{html.escape(text)}</p>")

    def table(self, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A table; numbers are aligned to the right, None is a dash."""
        numeric = [
            bool(rows) and all(row[k] is None or isinstance(row[k], (int, float)) for row in rows)
            for k in range(len(header))
        ]
        kinds = [" class=number" if number else "" for number in numeric]
        head = "".join(f"<th{kind}>{html.escape(name)}" for kind, name in zip(kinds, header, strict=True))
        body = "".join(
            "<tr>" + "".join(f"<td{kind}>{html.escape(shown(value))}" for kind, value in zip(kinds, row, strict=True))
            for row in rows
        )
        self._parts.append(f"<div class=wide><table><tr>{head}{body}</table></div>")

    def picture(self, picture: Image.Image, caption: str, quality: int = 80) -> None:
        """A picture as WebP inside the page; what is transparent shows a checkerboard.

        Args:
            picture: RGB or RGBA.
            caption: What it shows; also what is read out in its place.
            quality: Of WebP, 1 to 100.
        """
        data = io.BytesIO()
        picture.save(data, format="WEBP", quality=quality, method=4)
        source = base64.b64encode(data.getvalue()).decode()
        text = html.escape(caption)
        self._parts.append(
            f'<figure><img width={picture.width} height={picture.height} alt="{text}" loading=lazy '
            f'src="data:image/webp;base64,{source}"><figcaption>{text}</figcaption></figure>'
        )

    def histograms(self, columns: Sequence[tuple[str, np.ndarray]]) -> None:
        """Histograms side by side.

        Args:
            columns: Names and values ``[N]``; NaN and infinite ones are left out and counted.
        """
        self._parts.append(f"<div class=plots>{''.join(histogram(*column) for column in columns)}</div>")

    def details(self, summary: str, text: str) -> None:
        """Preformatted text that opens on a click."""
        self._parts.append(
            f"<details><summary>{html.escape(summary)}</summary><pre>{html.escape(text)}</pre></details>"
        )

    def html(self) -> str:
        """The page."""
        title = html.escape(self.title)
        return (
            "<!doctype html>\n<html lang=en><meta charset=utf-8>"
            '<meta name=viewport content="width=device-width, initial-scale=1">'
            f"<title>{title}</title><style>{_STYLE}</style>\n<h1>{title}</h1>\n"
            + "\n".join(self._parts)
            + "\n</html>\n"
        )


def shown(value: object) -> str:
    """A value as tables show it: floats with four digits, None as a dash."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def histogram(name: str, values: np.ndarray, bins: int = 30) -> str:
    """A histogram as a figure with an inline SVG in the page's colours."""
    finite = np.asarray(values, np.float64)
    finite = finite[np.isfinite(finite)]
    missing = len(values) - len(finite)
    rest = f", {missing:,} without" if missing else ""
    if not len(finite):
        return f"<figure><figcaption>{html.escape(name)}: no values{rest}</figcaption></figure>"
    counts, edges = np.histogram(finite, bins)
    top, width = _HEIGHT - _FOOT, _WIDTH / bins
    heights = counts / counts.max() * top
    bars = "".join(
        f'<rect x="{k * width:.1f}" y="{top - high:.1f}" width="{width - 1:.1f}" height="{high:.1f}">'
        f"<title>{edges[k]:.4g} to {edges[k + 1]:.4g}: {counts[k]:,}</title></rect>"
        for k, high in enumerate(heights)
        if high
    )
    text = html.escape(
        f"{name}: {len(finite):,} values, mean {finite.mean():.4g}, median {np.median(finite):.4g}{rest}"
    )
    return (
        f'<figure><svg width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="{text}">{bars}'
        f'<line x1="0" x2="{_WIDTH}" y1="{top}" y2="{top}"/><text x="0" y="{_HEIGHT - 3}">{edges[0]:.4g}</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT - 3}" text-anchor="end">{edges[-1]:.4g}</text></svg>'
        f"<figcaption>{text}</figcaption></figure>"
    )


def _decoded(data: bytes, height: int) -> Image.Image:
    try:
        return decode_picture(data).convert("RGBA")
    except ItemError:
        return Image.new("RGBA", (height, height))


def strip(frames: Sequence[bytes], height: int = 96, most: int = 8, gap: int = 2) -> Image.Image:
    """Frames of an orbit in a row, RGBA; a file that is no picture is an empty square.

    Args:
        frames: Picture files.
        height: Pixels that frames are brought to; small ones by a whole factor.
        most: How many are shown, evenly spaced.
        gap: Pixels between them.
    """
    chosen = [frames[number] for number in sorted({k * len(frames) // most for k in range(most)})]
    pictures = []
    for data in chosen:
        picture = _decoded(data, height)
        if picture.height > height:
            picture = picture.resize((round(picture.width * height / picture.height), height), Image.Resampling.BOX)
        elif factor := height // picture.height:
            picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
        pictures.append(picture)
    sheet = Image.new("RGBA", (sum(one.width + gap for one in pictures) - gap, max(one.height for one in pictures)))
    left = 0
    for picture in pictures:
        sheet.paste(picture, (left, 0))
        left += picture.width + gap
    return sheet
