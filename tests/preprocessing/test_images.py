import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from vfusion3d.errors import InputImageError
from vfusion3d.preprocessing import read_picture, to_rgba

ORANGE = (200, 100, 50)


def orange(mode: str = "RGB") -> Image.Image:
    return Image.new("RGB", (64, 48), ORANGE).convert(mode)


def grey_array(dtype, value):
    return Image.fromarray(np.full((48, 64), value, dtype=dtype))


@pytest.mark.parametrize(
    ("name", "image", "options", "expected"),
    [
        ("rgb.png", orange(), {}, (*ORANGE, 255)),
        ("grey.png", orange("L"), {}, (124, 124, 124, 255)),
        ("grey_alpha.png", orange("LA"), {}, (124, 124, 124, 255)),
        ("bits.png", Image.new("1", (64, 48), 1), {}, (255, 255, 255, 255)),
        ("palette.gif", orange(), {}, (*ORANGE, 255)),
        ("colour_key.png", orange(), {"transparency": ORANGE}, (*ORANGE, 0)),
        ("grey_key.png", orange("L"), {"transparency": 124}, (124, 124, 124, 0)),
        ("cmyk.tif", orange("CMYK"), {}, (*ORANGE, 255)),
        ("ycbcr.tif", orange("YCbCr"), {}, (*ORANGE, 255)),
        ("sixteen.png", grey_array(np.uint16, 40000), {}, (156, 156, 156, 255)),
        ("thirty_two.tif", grey_array(np.int32, 40000), {}, (156, 156, 156, 255)),
        ("float.tif", grey_array(np.float32, 0.5), {}, (128, 128, 128, 255)),
        ("photo.jpg", orange(), {"quality": 95}, (*ORANGE, 255)),
        ("photo.webp", orange(), {"lossless": True}, (*ORANGE, 255)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_mode_becomes_rgba(tmp_path, name, image, options, expected):
    image.save(tmp_path / name, **options)
    picture = read_picture(tmp_path / name)
    assert (picture.mode, picture.size) == ("RGBA", (64, 48))
    assert np.abs(np.subtract(picture.getpixel((10, 10)), expected)).max() <= 2


@pytest.mark.parametrize("mode", ["RGBa", "PA", "HSV", "RGBX", "P"])
def test_modes_that_only_exist_in_memory(mode):
    source = orange("RGBA").convert(mode) if mode != "P" else orange("P")
    assert np.abs(np.subtract(to_rgba(source).getpixel((3, 3)), (*ORANGE, 255))).max() <= 4


def test_premultiplied_grey_is_divided_again():
    source = Image.new("LA", (32, 32), (120, 128)).convert("La")
    assert np.abs(np.subtract(to_rgba(source).getpixel((3, 3)), (120, 120, 120, 128))).max() <= 1


def test_exif_rotation_is_applied(tmp_path):
    image = Image.new("RGB", (64, 48), "white")
    image.paste("red", (0, 0, 32, 48))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after turning a quarter clockwise
    image.save(tmp_path / "turned.png", exif=exif)
    picture = read_picture(tmp_path / "turned.png")
    assert picture.size == (48, 64)
    assert picture.getpixel((24, 5))[:3] == (255, 0, 0) and picture.getpixel((24, 60))[:3] == (255, 255, 255)


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    assert read_picture(tmp_path / "film.gif").getpixel((5, 5))[:3] == (255, 0, 0)


def test_colour_profile_is_applied_and_a_broken_one_ignored(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    orange().save(tmp_path / "same.png", icc_profile=profile)
    orange().save(tmp_path / "broken.png", icc_profile=b"no profile" * 20)
    for name in ("same.png", "broken.png"):
        assert read_picture(tmp_path / name).getpixel((5, 5)) == (*ORANGE, 255)


def test_large_pictures_are_shrunk(tmp_path):
    Image.new("RGB", (3000, 1500), ORANGE).save(tmp_path / "large.png")
    picture = read_picture(tmp_path / "large.png")
    assert picture.size == (2048, 1024) and picture.getpixel((9, 9)) == (*ORANGE, 255)


def noise_bytes(kind: str) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (200, 200, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels: what is read before they are."""
    fields = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    header = struct.pack(">I", 13) + fields + struct.pack(">I", zlib.crc32(fields))
    return b"\x89PNG\r\n\x1a\n" + header + struct.pack(">I", 100) + b"IDAT"


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    (folder / "folder.png").mkdir()
    (folder / "text.png").write_text("I am no picture")
    (folder / "empty.png").write_bytes(b"")
    for kind in ("png", "jpeg", "webp"):
        data = noise_bytes(kind)
        (folder / f"cut.{kind}").write_bytes(data[: len(data) // 2])
    for name, size in {"dot": (1, 1), "line": (20000, 20), "large": (11000, 11000), "bomb": (60000, 60000)}.items():
        (folder / f"{name}.png").write_bytes(png_header(*size))
    return folder


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.png", "does not exist"),
        ("folder.png", "is a folder"),
        ("text.png", "is not a picture"),
        ("empty.png", "is an empty file"),
        ("cut.png", "is truncated or damaged"),
        ("cut.jpeg", "is truncated or damaged"),
        ("cut.webp", "is truncated or damaged"),
        ("dot.png", "is 1 x 1 pixels, too small"),
        ("line.png", "is 20000 x 20 pixels, more than 16 times"),
        ("large.png", "has 11000 x 11000 pixels, more than 100 million"),
        ("bomb.png", "has more than 100 million"),
    ],
)
def test_one_sentence_each(bad_files, name, words):
    with pytest.raises(InputImageError, match=words) as caught:
        read_picture(bad_files / name)
    message = str(caught.value)
    assert str(bad_files / name) in message and message.endswith(".") and "\n" not in message


def test_forbidden_file(tmp_path, monkeypatch):
    orange().save(tmp_path / "secret.png")

    def refuse(self, mode):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(InputImageError, match=r"cannot be read \(Permission denied\)"):
        read_picture(tmp_path / "secret.png")


def test_a_small_file_that_would_unpack_to_many_pixels(tmp_path):
    """A true bomb: 15 KB of well-formed PNG that hold 121 million pixels; nothing of it is decoded."""
    Image.new("1", (11000, 11000)).save(tmp_path / "bomb.png")
    assert (tmp_path / "bomb.png").stat().st_size < 50_000
    with pytest.raises(InputImageError, match="has 11000 x 11000 pixels, more than 100 million pixels; shrink it"):
        read_picture(tmp_path / "bomb.png")


def test_a_bomb_inside_an_icon(tmp_path):
    """An ICO announces 64 x 64 pixels and holds a PNG that announces 60000 x 60000."""
    inner = png_header(60000, 60000)
    header = struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 64, 64, 0, 0, 1, 32, len(inner), 22)
    (tmp_path / "bomb.ico").write_bytes(header + inner)
    with pytest.raises(InputImageError, match=r"bomb\.ico' has .*more than 100 million pixels"):
        read_picture(tmp_path / "bomb.ico")


def test_a_file_without_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr("vfusion3d.preprocessing.images.MAX_BYTES", 1000)
    (tmp_path / "long.png").write_bytes(noise_bytes("png"))
    with pytest.raises(InputImageError, match=r"long\.png' is a file of more than"):
        read_picture(tmp_path / "long.png")


def test_pictures_in_memory_are_checked_too():
    with pytest.raises(InputImageError, match="too small"):
        to_rgba(Image.new("RGB", (1, 1)))
