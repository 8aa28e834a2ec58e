"""Matting networks from local ONNX files, through the package rembg (extra ``rembg``).

The paper's test-time processing uses rembg's ``isnet-general-use``. BiRefNet comes the same way, as rembg's
``birefnet-general``: its other home, the transformers hub, runs Python code downloaded with the weights
(``trust_remote_code``), while an ONNX file is a graph and cannot. rembg itself would download a missing model
and refuses files outside its own folder; here the file is always the user's.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vfusion3d.errors import CheckpointError, MissingExtraError

MODELS = {"rembg": "isnet-general-use", "birefnet": "birefnet-general"}
"""Name of the network of each strategy in rembg, which is also its file's name there."""


@lru_cache(maxsize=1)
def load_network(strategy: str, weights: str) -> Any:
    """The rembg session of a weight file; kept, so that many pictures load it once.

    Args:
        strategy: A key of `MODELS`.
        weights: The ONNX file.

    Raises:
        MissingExtraError: if rembg or onnxruntime is not installed.
        CheckpointError: if the file is missing or no ONNX model.
    """
    path = Path(weights).expanduser()
    if not path.is_file():
        raise CheckpointError(f"Background weights '{weights}' are not there; give the ONNX file's path.")
    try:
        import onnxruntime  # rembg ends the process where this is missing
        from rembg.sessions import sessions_class
    except ImportError as error:
        raise MissingExtraError(
            f"Background strategy '{strategy}' needs rembg: pip install 'vfusion3d[rembg]'."
        ) from error
    [session] = [known for known in sessions_class if known.name() == MODELS[strategy]]
    local = type(
        f"Local{session.__name__}", (session,), {"download_models": classmethod(lambda *arguments, **options: path)}
    )
    try:
        return local(MODELS[strategy], onnxruntime.SessionOptions())
    except Exception as error:  # onnxruntime's own exceptions have no common base but this
        raise CheckpointError(
            f"Background weights '{weights}' are no ONNX model that can be loaded; download them again."
        ) from error


def network_alpha(session: Any, picture: Image.Image) -> np.ndarray:
    """What a network takes for the object.

    Args:
        session: As from `load_network`.
        picture: RGB picture.

    Returns:
        Opacity in [0, 1], float32, ``[H, W]``; 0 where the network's answer is the same everywhere.

    Raises:
        CheckpointError: if the network is not of the kind that its strategy expects.
    """
    try:
        with np.errstate(invalid="ignore"):  # rembg stretches the answer to [0, 1], which a constant one has not
            [mask] = session.predict(picture)
    except Exception as error:  # see above
        raise CheckpointError(
            f"Background weights given for {session.model_name} do not turn a picture [1, 3, 1024, 1024] into a mask; "
            f"give the file {session.model_name}.onnx."
        ) from error
    return np.asarray(mask, dtype=np.float32) / 255
