import numpy as np
import pytest
from PIL import Image, ImageDraw

from vfusion3d.errors import InputImageError, UsageError
from vfusion3d.preprocessing import STRATEGIES, remove_background
from vfusion3d.preprocessing.background import ALPHA_METHOD, HEURISTIC_METHOD

BOX = (20, 15, 70, 80)


def drawing(behind="white", colour="red") -> Image.Image:
    image = Image.new("RGBA", (96, 96), behind)
    ImageDraw.Draw(image).ellipse(BOX, fill=colour)
    return image


CLEAR = (0, 0, 255, 0)  # blue underneath


def test_alpha_is_used_untouched_when_there_is_some():
    source = drawing(CLEAR)
    for strategy in ("auto", "alpha"):
        cut = remove_background(source, strategy=strategy)
        assert cut.method == ALPHA_METHOD and cut.rgba.tobytes() == source.tobytes()
        assert not cut.doubtful and cut.warnings == ()


def test_the_heuristic_is_used_when_there_is_none():
    for strategy in ("auto", "heuristic"):
        cut = remove_background(drawing(), strategy=strategy)
        assert cut.method == HEURISTIC_METHOD and not cut.doubtful


def test_the_heuristic_on_a_transparent_picture_sees_it_on_white():
    cut = remove_background(drawing(CLEAR), strategy="heuristic")
    on_white = remove_background(drawing())
    assert cut.method == HEURISTIC_METHOD and cut.rgba.tobytes() == on_white.rgba.tobytes()


def test_alpha_asked_of_an_opaque_picture():
    with pytest.raises(InputImageError, match=r"Picture 'a\.png' has no transparent part.*choose 'auto'"):
        remove_background(drawing(), "Picture 'a.png'", strategy="alpha")


def test_colours_that_object_and_background_share_are_doubted():
    random = np.random.default_rng(0)
    pixels = random.integers(0, 255, (12, 12, 3)).astype(np.uint8)
    busy = Image.fromarray(pixels).resize((96, 96), Image.Resampling.NEAREST).convert("RGBA")
    cut = remove_background(busy, "Picture 'busy.png'")
    assert cut.doubtful
    assert cut.warnings[0].startswith("Picture 'busy.png' is hard for the offline background removal")


def test_warnings_of_the_object_come_with_the_cutout():
    source = Image.new("RGBA", (96, 96), CLEAR)
    source.paste("red", (10, 40, 60, 96))
    [warning] = remove_background(source, "Picture 'a.png'").warnings
    assert warning.startswith("Picture 'a.png'") and "reaches the bottom edge" in warning


def test_fully_transparent():
    for strategy in ("auto", "alpha", "heuristic"):
        with pytest.raises(InputImageError, match="fully transparent"):
            remove_background(Image.new("RGBA", (64, 64), (255, 0, 0, 0)), strategy=strategy)


def test_a_speck_of_alpha_is_no_foreground():
    source = Image.new("RGBA", (400, 400), (255, 0, 0, 0))
    source.putpixel((5, 5), (255, 0, 0, 255))
    with pytest.raises(InputImageError, match="no foreground"):
        remove_background(source)


@pytest.mark.parametrize(
    ("strategy", "weights", "words"),
    [
        ("magic", None, f"Background strategy 'magic' is unknown; choose from {', '.join(STRATEGIES)}"),
        (
            "rembg",
            None,
            "'rembg' needs the file isnet-general-use.onnx .*never downloaded by itself.*--background-weights",
        ),
        ("birefnet", None, "'birefnet' needs the file birefnet-general.onnx"),
        (
            "auto",
            "a.onnx",
            "Background weights 'a.onnx' are of no use to the strategy 'auto'; choose rembg or birefnet",
        ),
    ],
)
def test_strategies_that_cannot_work(strategy, weights, words):
    with pytest.raises(UsageError, match=words):
        remove_background(drawing(), strategy=strategy, weights=weights)
