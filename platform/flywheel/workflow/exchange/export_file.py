"""The file that an export writes: Parquet, JSON lines, or chat examples; whole or not at all."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from flywheel.errors import UsageError
from flywheel.lake.schemas import MODELS, from_arrow, schema_of
from flywheel.lake.store import sync_file
from flywheel.records import Example, Inference, Message, Record

if TYPE_CHECKING:
    import pyarrow as pa

ExportFormat = Literal["parquet", "jsonl", "chat"]


class Writer(Protocol):
    """Takes pieces of a table."""

    def write(self, rows: pa.Table) -> int:
        """Write them; how many rows the file got of them."""
        ...

    def close(self) -> None:
        """Nothing more will come."""
        ...


@contextmanager
def open_export(path: Path, table: str, format_: ExportFormat, *, force: bool) -> Iterator[Writer]:
    """A writer for rows of ``table``. The file appears when the block ends well, and not otherwise.

    Args:
        path: the file.
        table: whose schema the rows have.
        format_: ``chat`` is for tables in ``CHATS``.
        force: replace a file that is there.

    Raises:
        UsageError: the file is there, cannot be written, or the table has no chats.
    """
    if path.exists() and not force:
        raise _there(path)
    if format_ == "chat" and table not in CHATS:
        raise UsageError(f"{table} has no conversations with an answer; export it as jsonl, or one of {_named(CHATS)}")
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with _explained(path):
            writer = _WRITERS[format_](draft, table)
        try:
            yield writer
        finally:
            writer.close()
        sync_file(draft)
        if force:
            draft.replace(path)
        else:
            _link(draft, path)
    finally:
        draft.unlink(missing_ok=True)


class _Parquet:
    def __init__(self, path: Path, table: str) -> None:
        import pyarrow.parquet as pq

        self._writer = pq.ParquetWriter(path, schema_of(table), compression="zstd")

    def write(self, rows: pa.Table) -> int:
        self._writer.write_table(rows)
        return len(rows)

    def close(self) -> None:
        self._writer.close()


class _Lines:
    """One JSON object a row; columns with open keys are objects here, not text as in the table."""

    def __init__(self, path: Path, table: str) -> None:
        self._model = MODELS[table]
        self._stream = path.open("w", encoding="utf-8")

    def write(self, rows: pa.Table) -> int:
        records = from_arrow(rows, self._model)
        self._stream.writelines(record.model_dump_json() + "\n" for record in records)
        return len(records)

    def close(self) -> None:
        self._stream.close()


class _Chats:
    """OpenAI's fine-tuning format, one conversation a line; rows without a prompt or an answer give none."""

    def __init__(self, path: Path, table: str) -> None:
        self._model, self._chat = MODELS[table], CHATS[table]
        self._stream = path.open("w", encoding="utf-8")

    def write(self, rows: pa.Table) -> int:
        written = 0
        for record in from_arrow(rows, self._model):
            messages, answer = self._chat(record)
            if messages and answer.strip():
                said = [message.model_dump() for message in messages] + [{"role": "assistant", "content": answer}]
                self._stream.write(json.dumps({"messages": said}, ensure_ascii=False) + "\n")
                written += 1
        return written

    def close(self) -> None:
        self._stream.close()


def _example(row: Any) -> tuple[list[Message], str]:
    example: Example = row
    return example.messages, example.target


def _inference(row: Any) -> tuple[list[Message], str]:
    inference: Inference = row
    served = inference.choices[inference.choice_served :][:1]
    return inference.messages, served[0] if served else ""


CHATS: Final[Mapping[str, Callable[[Record], tuple[list[Message], str]]]] = {
    "examples": _example,
    "inferences": _inference,
}
"""Tables whose rows are a conversation with an answer, and where both are."""
_WRITERS: Final[Mapping[str, Callable[[Path, str], Writer]]] = {"parquet": _Parquet, "jsonl": _Lines, "chat": _Chats}


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}); name another file") from error


def _link(draft: Path, path: Path) -> None:
    """Give the draft its name unless a file got that name meanwhile."""
    try:
        os.link(draft, path)
    except FileExistsError as error:
        raise _there(path) from error
    sync_file(path)


def _there(path: Path) -> UsageError:
    return UsageError(f"{path} is there already; name another file, or replace it with --force")


def _named(names: Mapping[str, Any]) -> str:
    return ", ".join(names)
