"""What an import did: exact counts, for every file and in all, and the lines that were left out."""

from __future__ import annotations

from pydantic import Field

from flywheel.records import Record

SHOWN = 3
"""Rejected lines that a report quotes; the rejects file has them all."""


class Reject(Record):
    """A line that was left out. Its text is not here: it may hold personal data."""

    file: str
    line: int = Field(description="from 1; in a JSON document the number of the value")
    field: str
    reason: str


class Counts(Record):
    """What became of the lines: every line is imported, there already, or rejected."""

    lines: int = Field(default=0, description="lines that hold something, the rejected ones included")
    inferences: int = Field(default=0, description="interactions that are new in the lake")
    feedback: int = Field(default=0, description="reactions that are new in the lake")
    cases: int = Field(default=0, description="evaluation cases that are new in the lake")
    labels: int = Field(default=0, description="human labels that are new in the lake")
    duplicates: int = Field(default=0, description="rows that were in the lake already, or twice in the files")
    erased: int = Field(default=0, description="rows of erased people, left out")
    rejected: int = 0
    text_removed: int = Field(default=0, description="interactions stored without text because nobody consented")
    personal_data: int = Field(default=0, description="evaluation cases in which personal data was found")


class FileReport(Counts):
    """One file."""

    file: str
    format: str | None = Field(default=None, description="as named, or as recognised; None: no line was good")


class ImportReport(Counts):
    """All files of one import."""

    source: str
    files: list[FileReport]
    rejects: str | None = Field(default=None, description="file with every rejected line; None: there is none")
    first_rejects: list[Reject] = Field(default_factory=list[Reject])
    ignored: dict[str, int] = Field(
        default_factory=dict, description="what lines held that a row has no place for, and how often"
    )

    @property
    def all_bad(self) -> bool:
        """Whether there were lines and not one was good."""
        return self.rejected == self.lines > 0

    def summary(self) -> str:
        """One line for a person."""
        new = {
            "interactions": self.inferences,
            "reactions": self.feedback,
            "cases": self.cases,
            "labels": self.labels,
        }
        parts = [f"{count:,} {name}" for name, count in new.items() if count] or ["nothing new"]
        if self.duplicates:
            parts.append(f"{self.duplicates:,} rows were there already")
        if self.erased:
            parts.append(f"{self.erased:,} rows of erased people were left out")
        if self.rejected:
            parts.append(f"{self.rejected:,} rejected")
        formats = sorted({file.format for file in self.files if file.format})
        files = f"{len(self.files):,} files, " if len(self.files) > 1 else ""
        return f"{self.source}: {files}{self.lines:,} lines ({', '.join(formats) or 'no format'}); {', '.join(parts)}"

    def remarks(self) -> list[str]:
        """What a person should know besides, a line each."""
        lines = []
        if self.text_removed:
            lines.append(
                f"{self.text_removed:,} interactions were stored without their text: nobody consented. If these "
                "people did, say so in the lines or with --consent training,evaluation, and import again"
            )
        if self.personal_data:
            lines.append(
                f"{self.personal_data:,} cases hold what looks like personal data, and were stored as written; "
                "--strict refuses them"
            )
        if self.ignored:
            lines.append("left out: " + ", ".join(f"{what} ({count:,})" for what, count in self.ignored.items()))
        if self.rejects:
            lines.append(f"rejected lines are listed in {self.rejects}:")
            lines += [f"  {one.file}, line {one.line}, field '{one.field}': {one.reason}" for one in self.first_rejects]
        return lines
