"""Multi-stage render resolution."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import Any

from lightning.pytorch import Callback, Trainer

from vfusion3d.callbacks.progress import samples_before_step, samples_per_epoch
from vfusion3d.data.batches import require_pixels
from vfusion3d.errors import UsageError


class ResolutionSchedule(Callback):
    """Renders training patches from ever larger pictures (paper: 128, 192, 256, 320, 384 for 5, 5, 5, 5, 10 epochs).

    A pure function of the samples seen: a run killed and resumed anywhere has the same schedule. Loaders are
    never touched; the module resizes on the device.

    Args:
        resolutions: Side of the rendered picture in pixels per stage, at least the patch size.
        epochs: Length of every stage in epochs (fractions are fine); the last one lasts on.
        uniform: (low, high): draw the resolution per sample instead (Table 4's baseline: 128, 384); then
            the other arguments stay empty.

    Raises:
        ValueError: naming the argument.

    Example:
        >>> schedule = ResolutionSchedule([128, 192, 256], [5, 5, 5])
        >>> [schedule.resolution(e) for e in (0, 4.99, 5, 12, 40)]
        [128, 128, 192, 256, 256]
    """

    def __init__(
        self,
        resolutions: list[int] | None = None,
        epochs: list[float] | None = None,
        uniform: tuple[int, int] | None = None,
    ) -> None:
        resolutions, epochs = resolutions or [], epochs or []
        if uniform is None and (not resolutions or len(resolutions) != len(epochs)):
            raise ValueError(
                "Arguments `resolutions` and `epochs` must be lists of the same length >= 1, "
                f"but got {resolutions} and {epochs}."
            )
        if uniform is not None and (resolutions or epochs):
            raise ValueError("Argument `uniform` excludes `resolutions` and `epochs`; give one or the other.")
        if any(e <= 0 for e in epochs):
            raise ValueError(f"Argument `epochs` must hold positive numbers, but got {epochs}.")
        if uniform is not None and not 0 < uniform[0] <= uniform[1]:
            raise ValueError(f"Argument `uniform` must be (low, high) with 0 < low <= high, but got {uniform}.")
        self.resolutions, self.epochs = list(resolutions), list(epochs)
        self.uniform = None if uniform is None else (uniform[0], uniform[1])

    def resolution(self, epoch: float) -> int | tuple[int, int]:
        """Resolution (or range) after a fractional number of epochs."""
        if self.uniform is not None:
            return self.uniform
        stage = bisect_right(list(accumulate(self.epochs)), epoch + 1e-9)
        return self.resolutions[min(stage, len(self.resolutions) - 1)]

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Check the stages against the patch size."""
        patch = pl_module.patches.size
        smallest = min(self.resolutions or [self.uniform[0] if self.uniform else patch])
        if smallest < patch:
            raise UsageError(
                f"ResolutionSchedule renders at {smallest} pixels, smaller than the {patch} pixel patches: "
                "raise `resolutions` or lower `patches.size`."
            )

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Set the module's resolution for this step; at the first one see that the pictures suffice for all stages."""
        require_pixels(max(self.resolutions or self.uniform or ()), batch["images"].shape[-1])
        seen = samples_before_step(trainer, pl_module, batch)  # a stage never begins within an optimiser step
        resolution = self.resolution(seen / samples_per_epoch(trainer))
        pl_module.render_resolution = resolution
        side = resolution if isinstance(resolution, int) else resolution[1]
        pl_module.log("resolution", float(side), prog_bar=True)
