"""Reads the lines of a file of evaluation cases."""

from __future__ import annotations

import json
from collections import Counter

from flywheel.capture.import_format import ImportedCase, RefusedError, as_object, validated
from flywheel.capture.leaks import scan
from flywheel.config import PrivacyConfig


class CaseReader:
    """One line, one case.

    Args:
        privacy: set: a case with personal data is refused, by these detectors.
    """

    def __init__(self, privacy: PrivacyConfig | None) -> None:
        self.format: str | None = "flywheel"
        self.ignored: Counter[str] = Counter()
        self._privacy = privacy

    def read(self, line: bytes) -> ImportedCase:
        """One line as a case.

        Raises:
            RefusedError: it is none.
        """
        case = validated(ImportedCase, as_object(line))
        if self._privacy and (leaks := scan(texts(case), self._privacy)):
            kinds = ", ".join(sorted({leak.kind for leak in leaks}))
            raise RefusedError(leaks[0].id, f"holds what looks like personal data ({kinds}); write invented data")
        return case


def texts(case: ImportedCase) -> list[tuple[str, str]]:
    """Every text of a case, with its field."""
    expected = case.check.expected
    said = expected if isinstance(expected, str) else json.dumps(expected, ensure_ascii=False)
    return [
        *((f"messages.{index}.content", message.content) for index, message in enumerate(case.messages)),
        ("check.expected", said),
    ]
