"""Files from the Hugging Face hub: asked for once, and one sentence when they are not to be had."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from vfusion3d.errors import CheckpointError

_TIMEOUT = 10.0  # seconds


def fetch(
    name: str,
    files: Sequence[str],
    written_by: str,
    *,
    what: str = "Model",
    instead: str,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
) -> Path:
    """Download files of a repository, or find them in the cache.

    Args:
        name: ``owner/name``.
        files: Their names; they lie in one folder.
        written_by: What writes such repositories, for messages.
        what: What messages call it.
        instead: What to do without the hub, for messages: "give a folder ...".
        revision, cache_dir, token, local_files_only: As in `huggingface_hub.hf_hub_download`.

    Returns:
        The folder that holds them.

    Raises:
        CheckpointError: one sentence that says why they are not to be had.
    """
    local_files_only = local_files_only or not _answers(name, files[0], revision, token)
    try:
        paths = [
            hf_hub_download(
                name, file, revision=revision, cache_dir=cache_dir, token=token, local_files_only=local_files_only
            )
            for file in files
        ]
    except LocalEntryNotFoundError as error:
        offline = " (HF_HUB_OFFLINE is set)" if constants.HF_HUB_OFFLINE else ""
        raise CheckpointError(
            f"{what} {name!r} is not on this machine and the Hugging Face hub cannot be reached{offline}: connect to "
            f"the network, or {instead}."
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"The Hugging Face hub has no model {name!r} that you may read: check the name, or log in if it is private."
        ) from error
    except EntryNotFoundError as error:
        raise CheckpointError(
            f"{name!r} on the Hugging Face hub holds no {' and '.join(files)}: give a model written by {written_by}."
        ) from error
    except HFValidationError as error:
        raise CheckpointError(f"Model {name!r} cannot be a name on the Hugging Face hub: {error}") from error
    except Exception as error:  # of requests, httpx or xet, by the version of huggingface_hub
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise CheckpointError(
            f"Model {name!r} could not be downloaded from the Hugging Face hub ({reason}): try again."
        ) from error
    return Path(paths[-1]).parent


def _answers(name: str, file: str, revision: str | None, token: str | bool | None) -> bool:
    """Ask the hub once; without network, `hf_hub_download` asks for half a minute and prints every attempt."""
    try:
        get_hf_file_metadata(hf_hub_url(name, file, revision=revision), token=token, timeout=_TIMEOUT)
    except (HfHubHTTPError, HFValidationError):  # an answer, or a question that `hf_hub_download` refuses, too
        return True
    except Exception:  # of requests or httpx, by the version of huggingface_hub
        return False
    return True
