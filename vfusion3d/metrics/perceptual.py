"""Perceptual distance of pictures: LPIPS (Zhang et al., arXiv 1801.03924)."""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from vfusion3d.errors import CheckpointError, MissingWeightsError
from vfusion3d.metrics.functional import check_pair
from vfusion3d.metrics.per_object import PerObjectMetric

Trunk = Literal["alex", "vgg", "squeeze"]
_SMALLEST: dict[str, int] = {"alex": 31, "vgg": 16, "squeeze": 17}  # pixels a side, or pooling leaves nothing
_CHUNK = 16  # pictures compared at once


class LpipsNetwork:
    """The network of LPIPS 0.1 from the ``lpips`` package, whose calibrated layers come with it; never saved.

    Figures of ``alex`` and ``vgg`` are different numbers, as are those at different sizes of picture: name both.

    Args:
        net: ``alex`` (the package's default, for comparisons), ``vgg`` (what most papers on single-image 3D report, and
            the usual loss) or ``squeeze``.
        weights: Of the ImageNet trunk: None for torch hub's cache, filled from the network where there is one; a local
            torchvision ``.pth`` file; or ``random``, seeded random features under uniform weights, which are no LPIPS.

    Attributes:
        is_lpips: False of ``random``.

    Raises:
        MissingWeightsError: if the trunk is neither in torch hub's cache nor can be downloaded.
        CheckpointError: if the file is not one of this trunk.
        ValueError: if there is no such net.
    """

    def __init__(self, net: Trunk = "alex", weights: str | Path | None = None) -> None:
        if net not in get_args(Trunk):
            raise ValueError(f"Argument `net` must be one of {get_args(Trunk)}, but got {net!r}.")
        import lpips

        self.net, self.is_lpips = net, weights != "random"
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            try:
                network = lpips.LPIPS(net=net, lpips=self.is_lpips, pnet_rand=weights is not None, verbose=False)
            except OSError as error:  # urllib's
                raise MissingWeightsError(
                    f"The pretrained {net} trunk of LPIPS is not in torch hub's cache and cannot be downloaded "
                    f"({error}): connect to the network, or give a torchvision file of it (in training "
                    "`losses.trunk_weights`, which may also be random)."
                ) from error
        if self.is_lpips and weights is not None:
            _load_trunk(network, net, Path(weights))
        self.network: Any = network.eval().requires_grad_(False)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Distance of each pair of pictures ``[N, 3, H, W]`` in [0, 1] (the network itself reads [-1, 1]), ``[N]``."""
        if next(self.network.buffers()).device != prediction.device:
            self.network.to(prediction.device)
        return self.network(prediction.float(), target.float(), normalize=True).flatten()  # type: ignore[no-any-return]


def _load_trunk(network: Any, net: str, path: Path) -> None:
    """Copy the convolutions of a torchvision state dict into the trunk, in order."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(f"The LPIPS trunk {path} cannot be read as a torchvision state dict: {error}.") from error
    loaded = [value for key, value in state.items() if key.startswith("features.")]
    own = list(network.net.state_dict().items())
    if [tuple(v.shape) for v in loaded] != [tuple(v.shape) for _, v in own]:
        raise CheckpointError(f"The LPIPS trunk {path} is not a torchvision {net} state dict.")
    network.net.load_state_dict({key: value for (key, _), value in zip(own, loaded, strict=True)})


@torch.no_grad()
def lpips_distance(prediction: Tensor, target: Tensor, network: LpipsNetwork) -> Tensor:
    """LPIPS of each picture at the size it has, in float32; 0 for equal ones.

    Args:
        prediction, target: ``[..., 3, H, W]`` in [0, 1] of any floating type; predictions outside are clipped.
        network: Made once (`LpipsNetwork`).

    Returns:
        ``[...]``, float32.

    Raises:
        ValueError: if shapes differ or are not of RGB pictures, pictures are too small for the network, or hold NaN or
            infinite numbers.
    """
    check_pair(prediction, target)
    shape, smallest = prediction.shape, _SMALLEST[network.net]
    if shape[-3] != 3 or min(shape[-2:]) < smallest:
        raise ValueError(
            f"LPIPS ({network.net}) needs RGB pictures of at least {smallest} pixels a side, but got {list(shape)}."
        )
    first, second = prediction.float().clamp(0, 1).reshape(-1, *shape[-3:]), target.float().reshape(-1, *shape[-3:])
    parts = zip(first.split(_CHUNK), second.split(_CHUNK), strict=True)
    with torch.autocast(prediction.device.type, enabled=False):
        return torch.cat([network(*pair) for pair in parts]).view(shape[:-3])


class LpipsDistance(PerObjectMetric):
    """Means of `lpips_distance` over pictures, then over objects, each counted once (`PerObjectMetric`).

    Args:
        network: A trained one; it is no part of the metric's state.
        settings: As of every `torchmetrics.Metric`.

    Raises:
        ValueError: if the network is random: its distance is no LPIPS.
    """

    NAMES = ("lpips",)

    def __init__(self, network: LpipsNetwork, **settings: Any) -> None:
        super().__init__(**settings)
        if not network.is_lpips:
            raise ValueError("Argument `network` has random features, whose distance is no LPIPS; load a trained one.")
        self.network = network

    def update(self, prediction: Tensor, target: Tensor, objects: Tensor) -> None:
        """Score B objects; pictures ``[B, V, 3, H, W]`` as in `lpips_distance`, ``objects`` int64, ``[B]``."""
        self.record(objects, {"lpips": lpips_distance(prediction, target, self.network).mean(-1)})
