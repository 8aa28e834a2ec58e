"""Latents of videos, encoded once and kept on the disk."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from vfusion3d.outputs import make_folder, write_atomically
from vfusion3d.video import VideoBackbone


class LatentCache:
    """Encodes videos that it has not seen, and remembers them: a safetensors file of float16 for each.

    A file is named by a hash of what it was made from, the frames and the codec with its weights, so that it never is
    another's: data, resolution, background, start of the orbit and codec may change. Any number of processes and runs
    may share a folder; one that is interrupted leaves whole files only, and what is there is not made again.

    Args:
        folder: Made if missing.

    Raises:
        OutputError: if files cannot be written there.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = make_folder(folder)
        self._codec: bytes | None = None

    @torch.no_grad()
    def encode(self, backbone: VideoBackbone, videos: Tensor) -> Tensor:
        """Latents ``[B, F, C, h, w]``, float32 rounded to float16, of videos as `VideoBackbone.encode` takes them."""
        paths = [self._path(backbone, video) for video in videos]
        known = [_read(path) for path in paths]
        missing = [k for k, latents in enumerate(known) if latents is None]
        if missing:
            made = backbone.encode(videos[missing]).half().cpu()
            for k, latents in zip(missing, made, strict=True):
                known[k] = latents
                paths[k].parent.mkdir(exist_ok=True)
                write_atomically(paths[k], save({"latents": latents.contiguous()}))
        return torch.stack([latents for latents in known if latents is not None]).to(videos.device).float()

    def _path(self, backbone: VideoBackbone, video: Tensor) -> Path:
        if self._codec is None:
            self._codec = _hash_of_codec(backbone)
        digest = hashlib.blake2b(self._codec, digest_size=20)
        digest.update(str(list(video.shape)).encode())
        digest.update(video.mul(65535).round().to(torch.int32).cpu().numpy().tobytes())
        name = digest.hexdigest()
        return self.folder / name[:2] / f"{name}.safetensors"


def _hash_of_codec(backbone: VideoBackbone) -> bytes:
    """Class, weights and settings that are no weights."""
    codec = backbone.codec
    digest = hashlib.blake2b(f"{type(codec).__name__} {codec.factor} {codec.channels}".encode(), digest_size=20)
    for name, tensor in sorted(codec.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.float().cpu().numpy().tobytes())
    return digest.digest()


def _read(path: Path) -> Tensor | None:
    """What is in a file; None if there is none, or it is damaged and has to be made again."""
    try:
        return load_file(path)["latents"]
    except (FileNotFoundError, SafetensorError, KeyError):
        return None
