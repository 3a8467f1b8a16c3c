"""The last look before training: personal data that is not a surrogate must not be in the dataset."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from flywheel.config import PrivacyConfig
from flywheel.text.names import load_names
from flywheel.text.personal_data import detect
from flywheel.text.spans import Kind
from flywheel.text.surrogates import is_surrogate


@dataclass(frozen=True, slots=True)
class Leak:
    """Personal data found in one text. ``value`` stays out of ``repr``: a leak report must not leak."""

    id: str
    kind: Kind
    start: int
    end: int
    value: str = field(repr=False)


def scan(texts: Iterable[tuple[str, str]], privacy: PrivacyConfig) -> list[Leak]:
    """Detections that are not surrogates, in the order of the texts.

    Args:
        texts: pairs of (id, text).
        privacy: detectors, names and phone regions; those of the anonymiser.

    Raises:
        ConfigError: the names file cannot be read.
    """
    names = load_names(privacy.names_file)
    return [
        Leak(text_id, span.kind, span.start, span.end, span.value)
        for text_id, text in texts
        for span in detect(text, detectors=privacy.detectors, names=names, phone_regions=privacy.phone_regions)
        if not is_surrogate(span.kind, span.value)
    ]
