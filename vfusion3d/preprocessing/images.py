"""Reading a picture: any mode PIL reads, upright, as straight-alpha RGBA."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from vfusion3d.errors import InputImageError

MIN_SIDE = 16
MAX_ASPECT = 16
MAX_PIXELS = 100_000_000
MAX_BYTES = 1 << 30
KEPT_SIDE = 2048


def read_picture(path: str | Path) -> Image.Image:
    """Read a picture file as upright, straight-alpha sRGB.

    The first frame of an animation is taken, EXIF rotation applied, an embedded colour profile converted to
    sRGB, 16- and 32-bit samples scaled to 8, and a picture of more than 2048 pixels a side shrunk to that.

    Args:
        path: A file in any format and mode that Pillow reads.

    Returns:
        A PIL picture of mode ``RGBA`` with straight alpha (255 everywhere if the file has none).

    Raises:
        InputImageError: one sentence saying what is wrong: the file is missing, a folder, empty, not a picture,
            truncated, too small, too elongated or too large (more than 100 million pixels: a decompression bomb
            is told by its header, before anything is decoded).
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise InputImageError(f"Picture '{path}' is a folder; name the picture files in it.")
        if not path.exists():
            raise InputImageError(f"Picture '{path}' does not exist; check the path.")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)  # never more: a device or a pipe may have no end
    except OSError as error:
        raise InputImageError(
            f"Picture '{path}' cannot be read ({error.strerror}); check the path and its permissions."
        ) from error
    if not data:
        raise InputImageError(f"Picture '{path}' is an empty file; save it again.")
    name = f"Picture '{path}'"
    if len(data) > MAX_BYTES:
        raise InputImageError(f"{name} is a file of more than {MAX_BYTES >> 30} GiB; shrink the picture first.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is checked here
        try:
            image = Image.open(io.BytesIO(data))
            _check_size(image, name)
            image.draft(None, (KEPT_SIDE, KEPT_SIDE))  # lets a JPEG decode at a fraction of its size
            image.load()
            return to_rgba(image, name)
        except InputImageError:
            raise
        except Image.DecompressionBombError as error:
            raise InputImageError(_too_large(name, "")) from error
        except UnidentifiedImageError as error:
            raise InputImageError(
                f"{name} is not a picture in a format that can be read (PNG, JPEG, WebP, ...); "
                "convert it to one of these."
            ) from error
        except Exception as error:  # Pillow's plug-ins raise many types on damaged data
            raise InputImageError(
                f"{name} is truncated or damaged ({_first_line(error)}); save or download it again."
            ) from error


def to_rgba(image: Image.Image, name: str = "The picture") -> Image.Image:
    """Any PIL picture as upright straight-alpha RGBA of at most 2048 pixels a side.

    Args:
        image: A picture of any mode; floating-point samples are in [0, 1].
        name: What messages call the picture.

    Raises:
        InputImageError: if it is too small, too elongated or too large.
    """
    _check_size(image, name)
    image = ImageOps.exif_transpose(image)
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I") or image.mode == "F":
        image = _to_eight_bits(image)
    elif image.mode == "LAB":
        image = _convert(image, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")), "RGB")
    elif profile and image.mode in ("RGB", "RGBA", "CMYK"):
        image = _to_srgb(image, profile)
    # Modes with premultiplied alpha (La, RGBa) and palettes with transparency have their own way to RGBA.
    rgba = image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
    rgba.thumbnail((KEPT_SIDE, KEPT_SIDE), Image.Resampling.BOX)
    return rgba


def _check_size(image: Image.Image, name: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise InputImageError(_too_large(name, f" {width} x {height} pixels,"))
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise InputImageError(
            f"{name} is {width} x {height} pixels, more than {MAX_ASPECT} times as long as it is wide; "
            "crop it to the object."
        )
    if min(width, height) < MIN_SIDE:
        raise InputImageError(f"{name} is {width} x {height} pixels, too small; use at least {MIN_SIDE} pixels a side.")


def _too_large(name: str, size: str) -> str:
    return f"{name} has{size} more than {MAX_PIXELS // 1_000_000} million pixels; shrink it first."


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Grey samples of 16 or 32 bits or floating point; Pillow's own conversion would clip them at 255."""
    samples = np.nan_to_num(np.asarray(image).astype(np.float64))
    if image.mode == "F":
        scale = 1.0
    elif image.mode == "I" and samples.max(initial=0) <= 255:
        scale = 255.0
    else:
        scale = 65535.0
    return Image.fromarray((np.clip(samples / scale, 0, 1) * 255 + 0.5).astype(np.uint8))


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    try:
        return _convert(image, ImageCms.ImageCmsProfile(io.BytesIO(profile)), image.mode.replace("CMYK", "RGB"))
    except (ImageCms.PyCMSError, OSError):  # a damaged profile: the plain numbers are the best there is
        return image


def _convert(image: Image.Image, source: ImageCms.ImageCmsProfile, mode: str) -> Image.Image:
    converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode=mode)
    assert converted is not None  # only None when converting in place
    return converted


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
