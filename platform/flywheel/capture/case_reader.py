"""Reads the lines of a file of evaluation cases."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable

from flywheel.capture.import_format import ImportedCase, RefusedError, as_object, validated
from flywheel.capture.leaks import scan
from flywheel.config import PrivacyConfig
from flywheel.errors import UsageError
from flywheel.records import Check


class CaseReader:
    """One line, one case.

    Args:
        privacy: set: a case with personal data is refused, by these detectors.
        validate: raises ``UsageError`` for a check that could never mark an answer.
    """

    def __init__(self, privacy: PrivacyConfig | None, validate: Callable[[Check], None] | None = None) -> None:
        self.format: str | None = "flywheel"
        self.ignored: Counter[str] = Counter()
        self._privacy = privacy
        self._validate = validate

    def read(self, line: bytes) -> ImportedCase:
        """One line as a case.

        Raises:
            RefusedError: it is none.
        """
        case = validated(ImportedCase, as_object(line))
        if self._validate:
            try:
                self._validate(case.check)
            except UsageError as error:
                raise RefusedError("check", str(error)) from error
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
