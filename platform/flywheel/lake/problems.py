"""Turn what the storage libraries raise into one ``LakeError`` that says what to do next.

obstore and delta-rs both wrap the same Rust library and report most failures only as text, so the
text is what is looked at; unknown failures keep their own words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from obstore.exceptions import BaseError, NotFoundError

from flywheel.errors import LakeError, NotFoundInLakeError

STORAGE_ERRORS = (BaseError, DeltaError, OSError)
"""What obstore, delta-rs and the file system raise."""

_ADVICE: tuple[tuple[str, str], ...] = (
    (
        r"no space left|os error (28|122)\b|storagefull|quotaexceeded|disk quota",
        "the disk is full; free some space and run the same command again, nothing already stored is lost",
    ),
    (
        r"os error 27\b|filetoolarge",
        "a file may not grow that large here; raise the limit (ulimit -f) and run the same command again",
    ),
    (r"nosuchbucket|bucket does not exist", "the bucket does not exist; create it or correct lake.uri"),
    (
        r"instance metadata|169\.254\.169\.254|metadata endpoint|no credentials",
        "no key was found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    ),
    (
        r"invalidaccesskeyid|signaturedoesnotmatch|accessdenied|forbidden|unauthenticated|unauthorized",
        "the key was refused; check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY and that they may read and write there",
    ),
    (
        r"permission denied|os error (13|30)\b|read-only file system",
        "this user may not write there; change its rights",
    ),
    (
        r"badscheme|scheme is not|url scheme",
        "plain http is not allowed by default; set lake.storage_options.aws_allow_http to 'true' for a trusted network",
    ),
    (
        r"error sending request|connection refused|connect error|dns error|timed out|connectionrefused",
        "the storage cannot be reached; check lake.storage_options.aws_endpoint and that the server is up",
    ),
    (r"missing region", "no region is set; set lake.storage_options.aws_region"),
)


def explain(place: str, error: BaseException) -> LakeError:
    """The ``LakeError`` for a storage failure at ``place`` (a lake address, for the message). Pure."""
    text = f"{type(error).__name__}: {error}"
    found = next((advice for pattern, advice in _ADVICE if re.search(pattern, text, re.IGNORECASE | re.DOTALL)), None)
    if found:
        return LakeError(f"{place}: {found} ({_short(text)})")
    if isinstance(error, (NotFoundError, TableNotFoundError, FileNotFoundError)):
        return NotFoundInLakeError(f"{place} is not in the lake; check the name, or run the step that writes it")
    return LakeError(f"{place} could not be read or written: {_short(text)}")


@contextmanager
def explained(place: str) -> Iterator[None]:
    """Everything the storage raises inside becomes a ``LakeError``; lost commits pass through for a retry."""
    try:
        yield
    except CommitFailedError:
        raise
    except STORAGE_ERRORS as error:
        raise explain(place, error) from error


def _short(text: str, limit: int = 240) -> str:
    line = " ".join(re.sub(r"\x1b\[[0-9;]*m|↳", "", text).split())  # delta-rs colours its messages
    return line if len(line) <= limit else f"{line[:limit]}…"
