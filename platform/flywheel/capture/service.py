"""The two endless loops of capture, as threads that a supervised deployment holds and asks about.

A cycle that fails is logged, counted and tried again after a growing pause. A loop that stopped, or
made no progress for long, fails ``check_health``, and its supervisor replaces the process.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from prometheus_client import Counter
from tenacity import (
    RetryCallState,
    RetryError,
    Retrying,
    sleep_using_event,
    stop_when_event_set,
    wait_random_exponential,
)
from tenacity.retry import retry_if_exception_type

from flywheel.capture.ingest import Ingester, IngestReport, ingest_all
from flywheel.capture.outbox import outbox_folder
from flywheel.capture.ship import ShipReport, ship_once
from flywheel.config import CaptureConfig, FlywheelConfig
from flywheel.errors import CaptureError
from flywheel.lake.keys import Keyring
from flywheel.lake.store import ObjectStore
from flywheel.lake.tables import Lake
from flywheel.telemetry import ROWS_DROPPED_TOTAL, ROWS_INGESTED_TOTAL, SEGMENTS_SHIPPED_TOTAL

log = logging.getLogger(__name__)

ERASED: Final = "erased"
"""Reason of events that belong to somebody who was erased."""
MAX_PAUSE_S: Final = 30.0
"""Longest pause after failures."""
MAX_SILENCE_S: Final = 300.0
"""Without a successful cycle for this long, a loop counts as ill."""

_SHIPPED = Counter(SEGMENTS_SHIPPED_TOTAL, "Segments written to landing/")
_INGESTED = Counter(ROWS_INGESTED_TOTAL, "Rows committed to the tables", ["flow", "table"])
_DROPPED = Counter(ROWS_DROPPED_TOTAL, "Events that became no row, or a row without text", ["flow", "reason"])
_FAILED = Counter("flywheel_capture_failures_total", "Cycles of a capture loop that failed", ["loop"])


class Loop:
    """Calls ``cycle`` again and again in a thread of its own.

    Args:
        name: for the log, the counter and the thread.
        cycle: one pass; returns whether there was work, in which case the next one follows at once.
        interval_s: pause after a pass without work.
        max_silence_s: how long passes may fail or hang before ``check_health`` raises.
    """

    def __init__(
        self, name: str, cycle: Callable[[], bool], interval_s: float, *, max_silence_s: float = MAX_SILENCE_S
    ) -> None:
        self.name = name
        self.last_error: BaseException | None = None
        self._cycle, self._interval_s, self._max_silence_s = cycle, interval_s, max_silence_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._last_success = time.monotonic()

    def start(self) -> None:
        """Begin, once."""
        self._last_success = time.monotonic()
        self._thread.start()

    def stop(self, timeout_s: float = 30.0) -> None:
        """Ask the loop to end after its current pass, and wait for it."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    @property
    def silence_s(self) -> float:
        """Seconds since the last successful pass."""
        return time.monotonic() - self._last_success

    def check_health(self) -> None:
        """Nothing if all is well.

        Raises:
            CaptureError: the thread died, or no pass succeeded for ``max_silence_s``.
        """
        if self._stop.is_set():
            return
        if not self._thread.is_alive():
            raise CaptureError(f"the {self.name} loop is not running; restart its process") from self.last_error
        if self.silence_s > self._max_silence_s:
            message = f"the {self.name} loop made no progress for {self.silence_s:.0f} s; see its log"
            raise CaptureError(f"{message} (last error: {self.last_error})") from self.last_error

    def _run(self) -> None:
        retrying = Retrying(
            retry=retry_if_exception_type(Exception),
            wait=wait_random_exponential(multiplier=self._interval_s, max=MAX_PAUSE_S),
            stop=stop_when_event_set(self._stop),
            sleep=sleep_using_event(self._stop),
            before_sleep=self._note_failure,
        )
        while not self._stop.is_set():
            try:
                busy = retrying(self._cycle)
            except RetryError:
                return  # asked to stop while a pass was failing
            self._last_success, self.last_error = time.monotonic(), None
            if not busy:
                self._stop.wait(self._interval_s)

    def _note_failure(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        self.last_error = error
        _FAILED.labels(self.name).inc()
        log.error("%s: pass %d failed and is tried again", self.name, state.attempt_number, exc_info=error)


class ShipperLoop(Loop):
    """Ships the outboxes of this machine every ``seal_interval_s``."""

    def __init__(self, folder: Path, store: ObjectStore, config: CaptureConfig, keyring: Keyring) -> None:
        super().__init__("shipper", self._ship, config.seal_interval_s)
        self._folder, self._store, self._config, self._keyring = folder, store, config, keyring

    def _ship(self) -> bool:
        report = ship_once(self._folder, self._store, self._config, self._keyring)
        _SHIPPED.inc(report.segments)
        for flow, events in report.erased.items():
            _DROPPED.labels(flow, ERASED).inc(events)
        return False  # a segment every interval, however busy: their number must not grow with traffic


class IngesterLoop(Loop):
    """Ingests one flow, with ``ingest_interval_s`` between passes that found nothing."""

    def __init__(self, lake: Lake, config: FlywheelConfig, keyring: Keyring) -> None:
        super().__init__("ingester", self._ingest, config.capture.ingest_interval_s)
        self._flow, self._full = config.flow, config.capture.batch_segments
        self._ingester = Ingester(lake, config, keyring)

    def _ingest(self) -> bool:
        report = self._ingester.run_once()
        count(self._flow, report)
        return report.segments >= self._full  # else wait: a few larger batches beat many small ones


def count(flow: str, report: IngestReport) -> None:
    """Add what an ingestion did to this process's counters."""
    for table, rows in report.rows.items():
        _INGESTED.labels(flow, table).inc(rows)
    counted = {"duplicate": report.duplicates, "text_removed": report.text_removed, ERASED: report.erased}
    reasons = {**counted, **report.quarantined}
    for reason, rows in reasons.items():
        if rows:
            _DROPPED.labels(flow, reason).inc(rows)


def flush(lake: Lake, config: FlywheelConfig, keyring: Keyring) -> tuple[ShipReport, IngestReport]:
    """Bring everything that this machine has acknowledged so far into the tables. Safe beside running loops."""
    shipped = ship_once(outbox_folder(config), lake.store, config.capture, keyring)
    return shipped, ingest_all(lake, config, keyring)
