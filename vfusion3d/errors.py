"""What the library raises when its input, not its code, is wrong.

Every message is one sentence that names the file or argument, what was wrong and what to do; the command
line prints it and exits with code 2.
"""


class VFusion3DError(Exception):
    """Base of the library's own exceptions."""


class InputImageError(VFusion3DError, ValueError):
    """A picture that cannot be used."""


class CheckpointError(VFusion3DError, ValueError):
    """A checkpoint or model name that cannot be used."""


class MissingWeightsError(CheckpointError):
    """Released weights that are neither on this machine nor can be downloaded: what needs them reads n/a."""


class MeshError(VFusion3DError, ValueError):
    """A mesh that cannot be used."""


class SceneError(VFusion3DError, ValueError):
    """A scene folder (transforms.json and images) that cannot be used."""


class ShardError(VFusion3DError, ValueError):
    """A shard set (tar files and Parquet metadata) that cannot be used."""


class OutputError(VFusion3DError, OSError):
    """A result that cannot be written."""


class UsageError(VFusion3DError, ValueError):
    """An option or a combination of options that cannot be used."""


class TrainingError(VFusion3DError, RuntimeError):
    """Training that had to end; raised in every process alike, after the last good checkpoint was named."""


class TrainingTerminated(TrainingError):
    """Training that was told to end by SIGTERM, and did so after a whole step with a checkpoint."""


class MissingExtraError(VFusion3DError, ImportError):
    """An optional dependency that is not installed; the message names the pip command."""
