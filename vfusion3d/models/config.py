"""The architecture as data: one configuration class and the named presets."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

from vfusion3d.cameras import SourceFrame
from vfusion3d.errors import CheckpointError

EncoderKind = Literal["vit", "dinov2", "dinov2_registers"]
Padding = Literal["zeros", "border"]


@dataclass(frozen=True)
class ReconstructorConfig:
    """Everything that defines a `TriplaneReconstructor` (paper section 3.3 and supplement; REFERENCE names).

    Raises:
        ValueError: naming the field, what is allowed and what was given.
    """

    name: str = "custom"
    """Name written into reports."""
    license: str = "unknown"
    """Licence of the weights; written into reports."""
    lineage: tuple[str, ...] = ()
    """One sentence for each licence that the weights come from: of what training started from, of the data."""

    encoder: EncoderKind = "dinov2"
    """``dinov2`` and ``dinov2_registers`` are transformers models, ``vit`` a small one with a convolutional stem."""
    image_size: int = 512
    """Side of the square input picture in pixels."""
    image_alpha: bool = False
    """Whether the encoder also reads the foreground mask as a fourth channel (``vit`` only)."""
    image_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Subtracted from the RGB picture in [0, 1]."""
    image_std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """Divides the RGB picture afterwards."""
    patch_size: int = 14
    """Side of an image token in pixels."""
    encoder_dim: int = 768
    """Width of the image tokens."""
    encoder_layers: int = 12
    """Transformer layers of the encoder."""
    encoder_heads: int = 12
    """Attention heads of the encoder."""
    encoder_positions: int = 37
    """Side of the grid of positions that DINOv2 learned; other sizes are resampled from it."""

    transformer_dim: int = 1024
    """Width of the triplane tokens."""
    transformer_layers: int = 16
    """Layers of the triplane decoder."""
    transformer_heads: int = 16
    """Attention heads of the triplane decoder."""
    camera_dim: int = 1024
    """Width of the camera embedding that modulates every layer."""
    triplane_low: int = 32
    """Side of a plane in tokens."""
    triplane_high: int = 64
    """Side of a plane in texels after the transposed convolution; a multiple of ``triplane_low``."""
    triplane_channels: int = 80
    """Channels of a plane."""

    field_dim: int = 64
    """Hidden width of the point MLP."""
    field_layers: int = 4
    """Linear layers of the point MLP, at least 2."""
    pixel_aligned_channels: int = 0
    """Source-picture features sampled where a point projects; 0 for none (released models; ``vit`` only)."""
    depth_frequencies: int = 0
    """Adds a point's depth in the source camera and this many octaves of its sine and cosine to its features, so
    that a pixel's features can say how thick the object is there (as PIFu, arXiv 1905.05172); 0 for none."""
    plane_padding: Padding = "zeros"
    """What lies beyond the outermost texel centre: ``zeros`` for released weights, ``border`` repeats it."""
    density_bias: float = -1.0
    """Density is softplus(raw + bias)."""
    density_sphere_slope: float = 0.0
    """Adds ``slope * (radius - |p|)`` to the raw density: an initial density shaped like a ball; 0 for none."""
    density_sphere_radius: float = 0.5
    """Radius of that ball in world units."""

    coarse_samples: int = 64
    """Samples in equal intervals of a ray."""
    fine_samples: int = 64
    """Samples placed by importance."""
    render_size: int = 384
    """Side in pixels of the renders the model was made for."""
    iso_threshold: float | None = None
    """Density at which the surface of a mesh is drawn; None fits it to each object's renders."""
    source_frame: SourceFrame = "upright_azimuth"
    """World the source camera is told in (`vfusion3d.cameras.frame_transform`)."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):  # JSON has no tuples
                object.__setattr__(self, field.name, tuple(value))
            least = 0 if field.name in ("pixel_aligned_channels", "depth_frequencies", "fine_samples") else 1
            counted = isinstance(field.default, int) and not isinstance(field.default, bool)
            if counted and (not isinstance(value, int) or value < least):
                raise ValueError(f"Field `{field.name}` must be an integer >= {least}, but got {value!r}.")
        for field_name, allowed in (
            ("encoder", get_args(EncoderKind)),
            ("plane_padding", get_args(Padding)),
            ("source_frame", get_args(SourceFrame)),
        ):
            if getattr(self, field_name) not in allowed:
                raise ValueError(
                    f"Field `{field_name}` must be one of {allowed}, but got {getattr(self, field_name)!r}."
                )
        for dim, heads in (("encoder_dim", "encoder_heads"), ("transformer_dim", "transformer_heads")):
            if getattr(self, dim) % getattr(self, heads):
                raise ValueError(
                    f"Field `{dim}` must be a multiple of `{heads}`, "
                    f"but got {getattr(self, dim)} and {getattr(self, heads)}."
                )
        if self.triplane_high % self.triplane_low:
            raise ValueError(
                "Field `triplane_high` must be a multiple of `triplane_low`, "
                f"but got {self.triplane_high} and {self.triplane_low}."
            )
        if self.field_layers < 2:
            raise ValueError(f"Field `field_layers` must be at least 2, but got {self.field_layers}.")
        if self.encoder != "vit" and (self.pixel_aligned_channels or self.image_alpha):
            raise ValueError("Fields `pixel_aligned_channels` and `image_alpha` need `encoder` to be 'vit'.")

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and lists, ready for JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ReconstructorConfig:
        """Inverse of `to_dict`.

        Raises:
            CheckpointError: for unknown keys or values out of range.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise CheckpointError(
                f"Unknown key(s) {', '.join(unknown)} in the model configuration: it is not one of this version "
                "of vfusion3d; check the file or update the package."
            )
        try:
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"The model configuration is not valid: {error}") from error

    @classmethod
    def preset(cls, name: str, /, **changes: Any) -> ReconstructorConfig:
        """A named architecture (random weights until trained or loaded).

        Args:
            name: One of `PRESETS`.
            changes: Fields to change.

        Raises:
            ValueError: if the name is unknown.
        """
        if name not in PRESETS:
            raise ValueError(f"Argument `name` must be one of {sorted(PRESETS)}, but got {name!r}.")
        unknown = sorted(set(changes) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise ValueError(f"Argument `changes` holds {', '.join(unknown)}, which ReconstructorConfig does not have.")
        return dataclasses.replace(PRESETS[name], **changes)


_OPENLRM = ReconstructorConfig(
    encoder="dinov2_registers",
    image_mean=(0.0, 0.0, 0.0),
    image_std=(1.0, 1.0, 1.0),
    source_frame="source_relative",
    license="CC-BY-NC-4.0",
)

PRESETS: dict[str, ReconstructorConfig] = {
    "vfusion3d": ReconstructorConfig(name="vfusion3d", license="CC-BY-NC-4.0", source_frame="fixed"),
    "openlrm-small": dataclasses.replace(
        _OPENLRM,
        name="openlrm-small",
        image_size=224,
        encoder_dim=384,
        encoder_heads=6,
        transformer_dim=512,
        transformer_layers=12,
        transformer_heads=8,
        camera_dim=1024,
        triplane_channels=32,
        coarse_samples=48,
        fine_samples=48,
        render_size=192,
    ),
    "openlrm-base": dataclasses.replace(
        _OPENLRM,
        name="openlrm-base",
        image_size=336,
        transformer_dim=768,
        transformer_layers=12,
        transformer_heads=12,
        triplane_channels=48,
        coarse_samples=48,
        fine_samples=48,
        render_size=288,
    ),
    "openlrm-large": dataclasses.replace(_OPENLRM, name="openlrm-large", image_size=448),
    "nano": ReconstructorConfig(
        name="nano",
        license="Apache-2.0",
        encoder="vit",
        image_size=128,
        image_alpha=True,
        image_mean=(0.5, 0.5, 0.5),
        image_std=(0.5, 0.5, 0.5),
        patch_size=16,
        encoder_dim=192,
        encoder_layers=4,
        encoder_heads=3,
        transformer_dim=192,
        transformer_layers=4,
        transformer_heads=3,
        camera_dim=96,
        triplane_low=8,
        triplane_high=32,
        triplane_channels=32,
        field_dim=64,
        pixel_aligned_channels=32,
        depth_frequencies=4,
        plane_padding="border",
        density_sphere_slope=4.0,
        coarse_samples=32,
        fine_samples=24,
        render_size=192,
    ),
    "tiny": ReconstructorConfig(
        name="tiny",
        license="Apache-2.0",
        encoder="vit",
        image_size=32,
        image_alpha=True,
        patch_size=8,
        encoder_dim=24,
        encoder_layers=1,
        encoder_heads=2,
        transformer_dim=24,
        transformer_layers=2,
        transformer_heads=2,
        camera_dim=16,
        triplane_low=4,
        triplane_high=8,
        triplane_channels=8,
        field_dim=16,
        pixel_aligned_channels=8,
        depth_frequencies=2,
        plane_padding="border",
        density_sphere_slope=4.0,
        coarse_samples=12,
        fine_samples=8,
        render_size=32,
        iso_threshold=2.0,
    ),
}
"""The released architectures, ours (``nano``, whose weights ship with the package) and a ``tiny`` one for tests."""
