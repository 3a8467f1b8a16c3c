"""A lease: one holder of a name at a time, over any number of machines, on nothing but put-if-absent.

``leases/<name>/<n>.json`` says who is the n-th holder; of several takers of one number the store lets one win.
``leases/<name>/<n>.beat.json`` is written by that holder alone, again and again: until when it holds, or that it
has let go. The newest number counts, and the next one is free once its holder let go or was silent for too long.
Numbers only grow and nothing is deleted: who acts on an old listing finds its number taken.

Two clocks are compared, the holder's and the taker's: they may differ by less than ``EXPIRY_S - BEAT_S``.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from types import TracebackType

from flywheel.errors import BusyError, LakeError, LeaseHeldError
from flywheel.lake.store import ObjectStore
from flywheel.records import Record, utcnow

EXPIRY_S = 120.0
BEAT_S = 15.0


class Beat(Record):
    """A holder's last sign of life."""

    until: datetime
    released: bool = False


class Holder(Record):
    """Who holds, or held, a lease."""

    n: int
    owner: str
    token: str
    since: datetime
    beat: Beat

    def holds(self, now: datetime) -> bool:
        """Whether it has neither let go nor fallen silent."""
        return not self.beat.released and self.beat.until > now

    def __str__(self) -> str:
        return f"{self.owner} since {self.since:%Y-%m-%d %H:%M:%S} UTC"


class Lease:
    """The lease of one name in one lake."""

    def __init__(self, store: ObjectStore, name: str, *, expiry_s: float = EXPIRY_S, beat_s: float = BEAT_S) -> None:
        self.store, self.name = store, name
        self.expiry_s, self.beat_s = expiry_s, beat_s

    def current(self) -> Holder | None:
        """The newest holder, whether it still holds or not; None before the first."""
        names = [key.rpartition("/")[2].removesuffix(".json") for key in self.store.list(f"leases/{self.name}/")]
        n = max((int(name) for name in names if name.isdigit()), default=0)
        return self._read(n) if n else None

    def take(self, owner: str, *, dead: Callable[[Holder], bool] | None = None) -> Held:
        """Become the next holder.

        Args:
            owner: shown to others.
            dead: whether a holder that has not expired is known to be gone all the same.

        Raises:
            LeaseHeldError: somebody holds it, or was faster just now.
        """
        last = self.current()
        if last is not None and last.holds(utcnow()) and not (dead is not None and dead(last)):
            raise LeaseHeldError(f"'{self.name}' is held by {last}; wait for it, or stop it")
        now = utcnow()
        beat = Beat(until=now + timedelta(seconds=self.expiry_s))
        mine = Holder(n=last.n + 1 if last else 1, owner=owner, token=uuid.uuid4().hex, since=now, beat=beat)
        if not self.store.put_if_absent(self.key(mine.n), mine.model_dump_json().encode()):
            raise LeaseHeldError(f"'{self.name}' was just taken by {self._read(mine.n)}; wait for it, or stop it")
        return Held(self, mine)

    def key(self, n: int) -> str:
        """Where the n-th holder is named."""
        return f"leases/{self.name}/{n:08d}.json"

    def write_beat(self, holder: Holder, *, released: bool = False) -> None:
        """A sign of life, or the last one."""
        beat = Beat(until=utcnow() + timedelta(seconds=self.expiry_s), released=released)
        self.store.put(self._beat_key(holder.n), beat.model_dump_json().encode())

    def _read(self, n: int) -> Holder:
        holder = Holder.model_validate_json(self.store.get(self.key(n)))
        beat = self.store.get_or_none(self._beat_key(n))
        return holder if beat is None else holder.model_copy(update={"beat": Beat.model_validate_json(beat)})

    def _beat_key(self, n: int) -> str:
        return self.key(n).removesuffix(".json") + ".beat.json"


class Held:
    """A lease in hand. Inside ``with`` a thread keeps it alive; leaving lets it go."""

    def __init__(self, lease: Lease, holder: Holder) -> None:
        self.holder = holder
        self._lease = lease
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease {lease.name}", daemon=True)

    def check(self) -> None:
        """Ask before anything that only the holder may do.

        Raises:
            BusyError: this process was silent for too long (it slept, or the lake was out of reach), and another
                took over.
        """
        if self._lease.store.exists(self._lease.key(self.holder.n + 1)):
            raise BusyError(
                f"The lease '{self._lease.name}' was taken over by {self._lease.current()} while this process was "
                "silent; leave the work to it."
            )

    def __enter__(self) -> Held:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(LakeError):  # it expires by itself, and the work's own error matters more
            self._lease.write_beat(self.holder, released=True)

    def _beat(self) -> None:
        while not self._stop.wait(self._lease.beat_s):
            with contextlib.suppress(LakeError):  # the next beat may get through; until then the last one counts
                self._lease.write_beat(self.holder)
