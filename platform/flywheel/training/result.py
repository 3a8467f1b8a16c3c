"""What a training run is given and what it hands back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from flywheel.config import TrainingConfig
from flywheel.records import Example, Record

IRRELEVANT = {"max_failures", "checkpoint_every", "cpus_per_worker"}
"""Settings that do not change a single bit of the result; a rerun may change them and still resume."""


class TrainResult(Record):
    """A finished run. Also the content of the completion marker in the model folder."""

    out: Path
    steps: int
    epochs: int
    tokens: int = Field(description="tokens seen over all epochs, padding not counted")
    examples: int = Field(description="examples trained on")
    dropped_too_long: int
    dropped: dict[str, str] = Field(default_factory=dict, description="example id -> reason")
    first_loss: float
    last_loss: float
    losses: list[float] = Field(description="loss of every optimizer step, nats a weighted token")
    seconds: float = Field(description="wall-clock seconds of the driver's call that finished the run")
    fingerprint: str = Field(description="of base, examples, settings and seed: same value, same weights")


class Job(Record):
    """What every worker is told. JSON-able: Ray Train shows it on its dashboard, so it holds no data."""

    config: TrainingConfig
    base: Path
    folder: Path = Field(description="of this run, on storage that all workers share")
    seed: int
    pad_id: int
    parameters: int = Field(description="number of the model's parameters")

    @property
    def data(self) -> Path:
        """Encoded examples."""
        return self.folder / "examples.npz"

    @property
    def export(self) -> Path:
        """Trained weights; the folder exists only when it is complete."""
        return self.folder / "export"

    @property
    def progress(self) -> Path:
        """One JSON line an optimizer step."""
        return self.folder / "progress.jsonl"

    @property
    def failure(self) -> Path:
        """Why the workers gave up in agreement; trying again would not help."""
        return self.folder / "failure.json"

    @property
    def log(self) -> Path:
        """Full text of the last error."""
        return self.folder / "error.log"


class Export(Record):
    """What the workers know at the end; written beside the exported weights."""

    losses: list[float]
    tokens: int


EXPORT_FILE = "export.json"


def fingerprint(config: TrainingConfig, base: Path, examples: Sequence[Example], seed: int) -> str:
    """Content hash of all that decides the resulting weights, 16 hex digits."""
    digest = hashlib.sha256()
    settings: dict[str, Any] = config.model_dump(mode="json", exclude=IRRELEVANT)
    digest.update(json.dumps({"settings": settings, "seed": seed}, sort_keys=True).encode())
    for example in examples:
        row = example.model_dump(mode="json", include={"example_id", "messages", "target", "weight"})
        digest.update(json.dumps(row, sort_keys=True).encode())
    for path in sorted(base.iterdir()):
        if path.is_file() and path.suffix in {".safetensors", ".json", ".jinja"}:
            digest.update(path.name.encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
