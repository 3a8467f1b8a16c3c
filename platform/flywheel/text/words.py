"""The words of a text, for comparing what is said and not how it is set."""

from __future__ import annotations

import re

from flywheel.text.normalise import normalise

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|[^\W_]+")


def words(text: str) -> list[str]:
    """Runs of letters and digits of the normal form; in scripts without spaces (Chinese, Japanese) every letter."""
    return _WORD.findall(normalise(text))
