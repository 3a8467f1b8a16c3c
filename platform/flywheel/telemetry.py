"""Counters and histograms, with their names in one place, and quiet defaults for every library.

Names follow Prometheus conventions (unit suffix, ``_total`` for counters). Nothing here leaves the
machine: the usage statistics of the engines below are switched off before they are imported.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import Final, Protocol

NO_TELEMETRY_ENV: Final[dict[str, str]] = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DISABLE_TELEMETRY": "1",
}
"""Set in every process Flywheel starts; a user's own explicit setting is overridden on purpose."""

QUIET_ENV: Final[dict[str, str]] = {
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "PYTHONWARNINGS": "ignore",
    # Fractional CPUs start more workers than cores on purpose; Ray would print that into every command's output.
    "RAY_DEDUP_LOGS_SKIP_REGEX": "PYTHON worker processes have been started",
}

QUIET_LOGGERS: Final[dict[str, int]] = {"DeepSpeed": logging.ERROR, "ray.serve": logging.WARNING}
"""These set their own level when they are imported or connected, which undoes ``setLevel`` but no filter."""

REQUESTS_TOTAL: Final = "flywheel_gateway_requests_total"
REQUEST_SECONDS: Final = "flywheel_gateway_request_seconds"
ASSIGNED_TOTAL: Final = "flywheel_gateway_assigned_total"
FALLBACKS_TOTAL: Final = "flywheel_gateway_fallbacks_total"
FEEDBACK_TOTAL: Final = "flywheel_gateway_feedback_total"
REFUSED_TOTAL: Final = "flywheel_gateway_refused_total"
KEYS_STALE: Final = "flywheel_gateway_key_file_stale"
SHADOW_SENT_TOTAL: Final = "flywheel_shadow_sent_total"
SHADOW_SAMPLED_TOTAL: Final = "flywheel_shadow_sampled_total"
SHADOW_WAITING: Final = "flywheel_shadow_waiting"
SHADOW_OUTCOMES_TOTAL: Final = "flywheel_shadow_outcomes_total"
SHADOW_PAIRS_LOST_TOTAL: Final = "flywheel_shadow_pairs_lost_total"
SHADOW_DROPPED_TOTAL: Final = "flywheel_shadow_dropped_total"
RANKER_FALLBACKS_TOTAL: Final = "flywheel_ranker_fallbacks_total"
BEST_OF_OFF_TOTAL: Final = "flywheel_best_of_off_total"
SIDE_BY_SIDE_TOTAL: Final = "flywheel_side_by_side_total"
OUTBOX_SYNC_SECONDS: Final = "flywheel_outbox_sync_seconds"
OUTBOX_QUEUE_EVENTS: Final = "flywheel_outbox_queue_events"
OUTBOX_WAITING_BYTES: Final = "flywheel_outbox_waiting_bytes"
OUTBOX_FREE_BYTES: Final = "flywheel_outbox_disk_free_bytes"
CAPTURE_REFUSED_TOTAL: Final = "flywheel_capture_refused_total"
CAPTURE_LOST_TOTAL: Final = "flywheel_capture_lost_total"
OUTBOX_CORRUPT_TOTAL: Final = "flywheel_outbox_corrupt_total"
SEGMENTS_SHIPPED_TOTAL: Final = "flywheel_segments_shipped_total"
ROWS_INGESTED_TOTAL: Final = "flywheel_rows_ingested_total"
ROWS_DROPPED_TOTAL: Final = "flywheel_rows_dropped_total"


def quiet_environment() -> dict[str, str]:
    """Environment that switches usage statistics off and chatter down. Pure; see ``apply_environment``."""
    return {**QUIET_ENV, **NO_TELEMETRY_ENV}


def apply_environment() -> None:
    """Set the environment of this process. Call before importing ray, vllm, transformers or mlflow."""
    for name, value in QUIET_ENV.items():
        os.environ.setdefault(name, value)
    os.environ.update(NO_TELEMETRY_ENV)
    for name, level in QUIET_LOGGERS.items():
        logging.getLogger(name).addFilter(_AtLeast(level))


def private_files() -> None:
    """Let what this process and its children write be for this user alone: it holds what people said."""
    os.umask(0o077)


@dataclass(frozen=True)
class _AtLeast:
    level: int

    def __call__(self, record: logging.LogRecord) -> bool:
        return record.levelno >= self.level


class Progress(Protocol):
    """What long work reports to. The command line draws it; tests and jobs may ignore it."""

    def start(self, name: str, text: str = "") -> None:
        """A named piece of work begins."""
        ...

    def update(self, done: float, total: float | None = None, text: str = "") -> None:
        """``done`` of ``total`` units are finished; ``text`` is a short extra such as a loss."""
        ...

    def finish(self, text: str = "") -> None:
        """The current piece is done; ``text`` is its one-line summary."""
        ...


class Silent:
    """Progress that nobody watches."""

    def start(self, name: str, text: str = "") -> None:
        """Ignore."""

    def update(self, done: float, total: float | None = None, text: str = "") -> None:
        """Ignore."""

    def finish(self, text: str = "") -> None:
        """Ignore."""


class Within:
    """Progress of a part: its starts and updates show inside the whole's current piece, its ends are not lines."""

    def __init__(self, whole: Progress) -> None:
        self._whole = whole

    def start(self, name: str, text: str = "") -> None:
        """Show what the part is about."""
        self._whole.update(0, None, f"{name}: {text}" if text else name)

    def update(self, done: float, total: float | None = None, text: str = "") -> None:
        """Pass on."""
        self._whole.update(done, total, text)

    def finish(self, text: str = "") -> None:
        """The whole goes on."""
