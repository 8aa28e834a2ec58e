"""Matting networks: real ONNX files through real rembg and onnxruntime where they are installed."""

import importlib.util
import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw

from vfusion3d.errors import CheckpointError, InputImageError, MissingExtraError
from vfusion3d.preprocessing import check_strategy, remove_background
from vfusion3d.preprocessing.networks import MODELS

needs_rembg = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("rembg", "onnx", "onnxruntime")),
    reason="needs rembg, onnxruntime and onnx",
)


def write_network(path, weights=(16.0, -2.0, -2.0), channels=3) -> str:
    """A network of one 1 x 1 convolution and a sigmoid: red is the object, by default."""
    from onnx import TensorProto, helper, numpy_helper, save

    kernel = np.array(weights, dtype=np.float32)[:channels].reshape(1, channels, 1, 1)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["picture", "kernel"], ["redness"]),
            helper.make_node("Sigmoid", ["redness"], ["mask"]),
        ],
        "red",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, channels, 1024, 1024])],
        [helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1, 1, 1024, 1024])],
        [numpy_helper.from_array(kernel, "kernel")],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return str(path)


def scene() -> tuple[Image.Image, np.ndarray]:
    """Two red discs, one far smaller, on a busy background without red; and the mask of the larger."""
    pixels = np.random.default_rng(0).integers(0, 255, (90, 120, 3)).astype(np.uint8)
    pixels[..., 0] = 0
    picture, mask = Image.fromarray(pixels), Image.new("1", (120, 90))
    ImageDraw.Draw(picture).ellipse((30, 15, 80, 75), fill="red")
    ImageDraw.Draw(mask).ellipse((30, 15, 80, 75), fill=1)
    ImageDraw.Draw(picture).ellipse((100, 10, 108, 18), fill="red")
    return picture.convert("RGBA"), np.asarray(mask)


@needs_rembg
@pytest.mark.parametrize("strategy", list(MODELS))
def test_a_network_from_a_local_file_cuts_the_object_out(tmp_path, strategy):
    picture, mask = scene()
    cut = remove_background(picture, strategy=strategy, weights=write_network(tmp_path / "red.onnx"))
    found = np.asarray(cut.rgba.getchannel("A")) > 127
    assert (found & mask).sum() / (found | mask).sum() > 0.95
    assert not found[14, 104]  # the small disc is not the salient object
    assert cut.method == f"matting network {MODELS[strategy]} (red.onnx)" and not cut.warnings
    edge = np.asarray(cut.rgba)[(np.asarray(cut.rgba)[..., 3] > 20) & ~found]
    assert len(edge) and edge[:, 0].min() > 200  # no colour of the background in the soft edge


@needs_rembg
def test_an_answer_without_an_object(tmp_path):
    nothing = write_network(tmp_path / "nothing.onnx", (0, 0, 0))
    with pytest.raises(InputImageError, match="has no foreground that the network 'rembg' finds"):
        remove_background(scene()[0], strategy="rembg", weights=nothing)


@needs_rembg
def test_files_that_are_no_such_network(tmp_path):
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(CheckpointError, match=r"text\.onnx' are no ONNX model"):
        check_strategy("rembg", tmp_path / "text.onnx")
    grey = write_network(tmp_path / "grey.onnx", channels=1)
    with pytest.raises(CheckpointError, match=r"do not turn a picture .* into a mask; give the file birefnet-general"):
        remove_background(scene()[0], strategy="birefnet", weights=grey)


def test_a_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere\.onnx' are not there"):
        check_strategy("rembg", tmp_path / "nowhere.onnx")


def test_without_the_extra(tmp_path, monkeypatch):
    (tmp_path / "some.onnx").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # as if it were not installed
    with pytest.raises(MissingExtraError, match=r"pip install 'vfusion3d\[rembg\]'"):
        check_strategy("rembg", tmp_path / "some.onnx")
