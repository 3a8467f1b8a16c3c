"""Labelling elsewhere: items in the formats of other tools, and what people did with them there, read back. Pure.

Each format is a module with ``write(item, slip)``, ``read(record, slip reader)`` and ``setup(question, guideline)``,
which tells how to make a project for the file; ``FORMATS`` is the registry.
"""

from __future__ import annotations

from typing import Final, Protocol

from flywheel.review.exchange import argilla, label_studio
from flywheel.review.exchange.common import Annotation, Reading, Slip
from flywheel.review.guideline import Guideline
from flywheel.review.queue import QueueItem
from flywheel.review.settle import Question


class Format(Protocol):
    """One tool's file format: a JSON array of objects."""

    def write(self, item: QueueItem, slip: Slip) -> dict[str, object]:
        """The object of one item."""
        ...

    def read(self, record: dict[str, object], reading: Reading) -> list[Annotation]:
        """What people said about one item."""
        ...

    def setup(self, question: Question, guideline: Guideline) -> str:
        """What to paste into the tool."""
        ...


FORMATS: Final[dict[str, Format]] = {"argilla": argilla, "label-studio": label_studio}
