"""The Hugging Face hub: whether it answers, and what it refuses as our sentences."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from vfusion3d.errors import CheckpointError, MissingWeightsError

_TIMEOUT = 10.0  # seconds


def hub_answers(name: str, file: str, revision: str | None = None, token: str | bool | None = None) -> bool:
    """Ask the hub once; without network, its downloads ask for half a minute and print every attempt.

    Args:
        name: ``owner/name``.
        file: Of the model, to ask for.
        revision: As in `huggingface_hub.hf_hub_download`.
        token: As there.
    """
    try:
        get_hf_file_metadata(hf_hub_url(name, file, revision=revision), token=token, timeout=_TIMEOUT)
    except (HfHubHTTPError, HFValidationError):  # an answer, or a question that a download refuses, too
        return True
    except Exception:  # of requests or httpx, by the version of huggingface_hub
        return False
    return True


@contextmanager
def hub_errors(name: str, *, what: str, files: str, instead: str) -> Iterator[None]:
    """Whatever goes wrong in a download, as a sentence.

    Args:
        name: ``owner/name``.
        what: What is downloaded, for example ``Model``.
        files: What it should hold, and where that comes from.
        instead: What to do without the hub.

    Raises:
        CheckpointError: that sentence; a `MissingWeightsError` without network.
    """
    try:
        yield
    except LocalEntryNotFoundError as error:
        offline = " (HF_HUB_OFFLINE is set)" if constants.HF_HUB_OFFLINE else ""
        raise MissingWeightsError(
            f"{what} {name!r} is not on this machine and the Hugging Face hub cannot be reached{offline}: connect to "
            f"the network, or {instead}."
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"The Hugging Face hub has no model {name!r} that you may read: check the name, or log in if it is private "
            "or asks to accept its licence."
        ) from error
    except EntryNotFoundError as error:
        raise CheckpointError(f"{name!r} on the Hugging Face hub holds no {files}.") from error
    except HFValidationError as error:
        raise CheckpointError(f"{what} {name!r} cannot be a name on the Hugging Face hub: {error}") from error
    except Exception as error:  # of requests, httpx or xet, by the version of huggingface_hub
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise CheckpointError(
            f"{what} {name!r} could not be downloaded from the Hugging Face hub ({reason}): try again."
        ) from error
