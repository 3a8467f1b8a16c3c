"""One sentence about why a run failed, out of what Ray Train and DeepSpeed have to say about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flywheel.training.result import Job

CONSEQUENCES = ("gloo", "connection closed by peer", "connection reset", "nccl", "broken pipe", "processgroup")
"""Errors a rank reports because *another* one is gone."""


def explain(error: BaseException, log: Path) -> str:
    """Sentence for the user; the full text goes to ``log``.

    Args:
        error: what ``TorchTrainer.fit`` raised.
        log: file to write, in the run's folder.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(f"{type(error).__name__}: {error}\n")
    failures: dict[int, BaseException] = getattr(error, "worker_failures", None) or {}
    if not failures:
        return f"training could not go on: {last_line(str(error))}; the full text is in {log}"
    rank, cause = first_cause(failures)
    return f"training failed on rank {rank}: {last_line(str(cause))}; the full text is in {log}"


def first_cause(failures: dict[int, Any]) -> tuple[int, Any]:
    """The rank that failed first of all, as far as the texts tell: not one that lost its peer."""
    ranks = sorted(failures)
    for rank in ranks:
        text = last_line(str(failures[rank])).lower()
        if not any(word in text for word in CONSEQUENCES):
            return rank, failures[rank]
    return ranks[0], failures[ranks[0]]


def last_line(text: str, limit: int = 300) -> str:
    """The last line of a traceback is the error itself; without its full stop."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[-1] if lines else "no message").rstrip(".")[:limit]


def give_up(job: Job, what: str) -> None:
    """Leave the reason for a failure that another attempt would only repeat; for one rank to call."""
    job.failure.write_text(json.dumps({"what": what}))


def agreed_failure(job: Job) -> str | None:
    """Why all workers stopped together without an exception, if they did."""
    if not job.failure.exists():
        return None
    what = json.loads(job.failure.read_text())["what"]
    return (
        f"{what}; lower training.learning_rate (now {job.config.learning_rate:g}) or look for broken weights "
        f"in {job.base}; the losses so far are in {job.progress}"
    )
