"""A lake in memory whose every write can be the last one of its process, or be overtaken by somebody else's."""

from __future__ import annotations

from collections.abc import Callable

from flywheel.errors import NotFoundInLakeError
from flywheel.testing import MemoryStore


class Crash(BaseException):
    """The process is gone."""


class Fate:
    """What happens around the k-th write from now: the process dies before or after it, or somebody else acts first."""

    def __init__(self) -> None:
        self.writes = 0
        self._plan: tuple[int, str, Callable[[], None] | None] | None = None

    def dies_at(self, k: int, *, after: bool) -> None:
        self.writes, self._plan = 0, (k, "after" if after else "before", None)

    def meets_at(self, k: int, action: Callable[[], None]) -> None:
        self.writes, self._plan = 0, (k, "meets", action)

    def clear(self) -> None:
        self._plan = None

    def write(self, effect: Callable[[], bool]) -> bool:
        self.writes += 1
        plan = self._plan if self._plan is not None and self._plan[0] == self.writes else None
        if plan is None:
            return effect()
        self._plan = None
        if plan[1] == "before":
            raise Crash
        if plan[2] is not None:
            plan[2]()
        done = effect()
        if plan[1] == "after":
            raise Crash
        return done


class FatefulStore(MemoryStore):
    def __init__(self, fate: Fate) -> None:
        super().__init__()
        self.fate = fate
        self.order: list[tuple[str, str]] = []
        """Every write that took place: ("object", key) or ("row", decision id)."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        def effect() -> bool:
            self._check()
            if key in self.objects:
                return False
            self.objects[key] = data
            self.order.append(("object", key))
            return True

        return self.fate.write(effect)

    def put(self, key: str, data: bytes) -> None:
        def effect() -> bool:
            self._check()
            self.objects[key] = data
            return True

        self.fate.write(effect)

    def get(self, key: str) -> bytes:
        self._check()
        if key not in self.objects:
            raise NotFoundInLakeError(key)
        return self.objects[key]


class MemoryLake:
    """The part of ``lake.Lake`` that the rollout uses."""

    def __init__(self, fate: Fate | None = None) -> None:
        self.store = FatefulStore(fate or Fate())
        self.tables: dict[str, list] = {}
        self._apps: dict[tuple[str, str], int] = {}

    def append(self, table, rows, *, app, version, flow=None):
        del flow

        def effect() -> bool:
            last = self._apps.get((table, app))
            if last is not None and version <= last:
                return False
            self._apps[table, app] = version
            self.tables.setdefault(table, []).extend(rows)
            self.store.order.extend(("row", row.decision_id) for row in rows)
            return True

        return self.store.fate.write(effect)

    def version(self, table):
        return len(self.tables.get(table, ()))

    def last_committed(self, table, app):
        return self._apps.get((table, app))

    def records(self, table, model, *, flow=None):
        del model, flow
        return list(self.tables.get(table, []))

    def copy(self) -> MemoryLake:
        """The same content with a fate of its own."""
        other = MemoryLake()
        other.store.objects = dict(self.store.objects)
        other.tables = {name: list(rows) for name, rows in self.tables.items()}
        other._apps = dict(self._apps)
        return other
