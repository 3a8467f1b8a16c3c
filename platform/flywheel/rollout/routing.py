"""The one truth about who answers: ``routing/<flow>/<n>.json``, each object written once, never changed.

The newest number is in force. A change reads the newest object, derives the next one with a pure function
below, and publishes it put-if-absent: of two writers at the same moment one wins and the other gets a
``BusyError``. Gateways and the engine controller poll; everything else about routing (MLflow aliases, the
``decisions`` table) is a projection of these objects.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Protocol

from pydantic import Field, ValidationError, model_validator

from flywheel.errors import BusyError, LakeError, UsageError
from flywheel.records import Record, utcnow
from flywheel.rollout.enrolled import Enrolled
from flywheel.rollout.slots import TICKS, overlap, width
from flywheel.rollout.variants import Canary, Shadow, Variant


class Store(Protocol):
    """The part of ``lake.ObjectStore`` that routing needs."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write unless there; True when written."""
        ...

    def get_or_none(self, key: str) -> bytes | None:
        """The object, or None."""
        ...

    def exists(self, key: str) -> bool:
        """Whether the object is there."""
        ...

    def list(self, prefix: str) -> list[str]:
        """Keys under a prefix."""
        ...


class Routing(Record):
    """One state of the routing of one flow. Produced by rollout, consumed by gateways and the controller."""

    n: int = Field(ge=1, description="number of this state; the next one is n + 1")
    flow: str
    live: Variant
    shadows: list[Shadow] = Field(default_factory=list)
    canaries: list[Canary] = Field(default_factory=list[Canary])
    epoch: int | None = Field(
        default=None, description="number of the state that began the present canaries; salts their assignment"
    )
    rollouts: list[Enrolled] = Field(
        default_factory=list[Enrolled], description="shadows and canaries that the state machine moves on"
    )
    previous: Variant | None = Field(default=None, description="the live model before this one: rollback's target")
    ts: datetime
    actor: str
    reason: str
    decision_id: str | None = None

    @model_validator(mode="after")
    def _one_role_each(self) -> Routing:
        names = [variant.version for variant in self.variants()]
        if len(names) != len(set(names)):
            raise ValueError(f"a version has one role at a time, got {names}")
        return self

    @model_validator(mode="after")
    def _live_keeps_the_rest(self) -> Routing:
        if any(not canary.slots for canary in self.canaries):
            raise ValueError("a canary without slots answers nobody; place it with `with_canary`")
        taken = [place for canary in self.canaries for place in canary.slots]
        if overlap(taken) or width(taken) >= TICKS:
            raise ValueError("canaries hold disjoint slots and leave some to the live model")
        if (self.epoch is None) != (not self.canaries):
            raise ValueError("an epoch belongs to canaries, and canaries to an epoch")
        return self

    @model_validator(mode="after")
    def _only_candidates_roll(self) -> Routing:
        names, candidates = [one.version for one in self.rollouts], {one.version for one in self.variants()[1:]}
        if len(names) != len(set(names)) or not candidates.issuperset(names):
            raise ValueError(f"a rollout is of one shadow or canary, and each has one; got {names}")
        return self

    def variants(self) -> list[Variant]:
        """The live model, every canary and every shadow: the engines that must run."""
        return [self.live, *self.canaries, *self.shadows]


def prefix(flow: str) -> str:
    """Where the routing objects of a flow are."""
    return f"routing/{flow}"


def key(flow: str, n: int) -> str:
    """The key of one routing object."""
    return f"{prefix(flow)}/{n}.json"


def current(store: Store, flow: str, *, at_least: int = 0) -> Routing | None:
    """The routing in force, None before the first.

    Args:
        store: the lake's object store.
        flow: whose routing.
        at_least: the newest number the caller has seen; then only newer numbers are probed (one ``exists``
            when nothing changed) instead of listing the folder.

    Raises:
        LakeError: a routing object cannot be read as one.
    """
    n = at_least or _newest_listed(store, flow)
    if n == 0:
        return None
    while store.exists(key(flow, n + 1)):
        n += 1
    return read(store, flow, n)


def newer(store: Store, flow: str, seen: int) -> Routing | None:
    """The routing in force when it is newer than number ``seen``, else None. One probe when it is not."""
    if seen and not store.exists(key(flow, seen + 1)):
        return None
    return current(store, flow, at_least=seen)


def live_since(store: Store, routing: Routing) -> datetime:
    """When the live model became live: changes of shadows since then do not count."""
    since = routing.ts
    for n in range(routing.n - 1, 0, -1):
        before = read(store, routing.flow, n)
        if before.live.version != routing.live.version:
            break
        since = before.ts
    return since


def read(store: Store, flow: str, n: int) -> Routing:
    """One routing object, in force or past.

    Raises:
        LakeError: it is not there, or is not a routing object.
    """
    data = store.get_or_none(key(flow, n))
    if data is None:
        raise LakeError(f"{key(flow, n)} is not in the lake; list {prefix(flow)}/ for the numbers that are")
    try:
        return Routing.model_validate_json(data)
    except ValidationError as error:
        raise LakeError(
            f"{key(flow, n)} is not a routing object ({error.error_count()} problems); restore it"
        ) from error


def publish(store: Store, routing: Routing) -> None:
    """Put a state in force.

    Raises:
        BusyError: somebody else published number ``routing.n`` first; read again and decide again.
        UsageError: its predecessor does not exist, so its number was made up.
    """
    if routing.n > 1 and not store.exists(key(routing.flow, routing.n - 1)):
        raise UsageError(f"routing {routing.n} has no predecessor; derive it from the one in force")
    unused: set[str] = (
        set() if routing.canaries else {"canaries", "epoch"}
    )  # a gateway from before there were any reads on
    unused |= set() if routing.rollouts else {"rollouts"}
    if not store.put_if_absent(
        key(routing.flow, routing.n), routing.model_dump_json(indent=1, exclude=unused).encode()
    ):
        raise BusyError(
            f"the routing of '{routing.flow}' was changed by somebody else meanwhile (number {routing.n} exists); "
            "look at the new state and repeat the command"
        )


def bootstrap(flow: str, live: Variant, *, actor: str, reason: str = "first live model") -> Routing:
    """The first state of a flow: one live model, no shadow."""
    return Routing(n=1, flow=flow, live=_plain(live), ts=utcnow(), actor=actor, reason=reason)


def with_shadow(
    routing: Routing, shadow: Shadow, *, actor: str, reason: str, decision_id: str | None = None
) -> Routing:
    """The next state with ``shadow`` mirrored; an existing shadow of that version is replaced.

    Raises:
        UsageError: that version is live or a canary: users see its answers already.
    """
    if shadow.version == routing.live.version:
        raise UsageError(f"'{shadow.version}' is the live model and cannot shadow itself")
    if any(shadow.version == canary.version for canary in routing.canaries):
        raise UsageError(f"'{shadow.version}' is a canary; stop that first to make it a shadow again")
    others = [other for other in routing.shadows if other.version != shadow.version]
    return next_state(routing, actor, reason, decision_id, shadows=[*others, shadow])


def without_shadow(
    routing: Routing, version: str, *, actor: str, reason: str, decision_id: str | None = None
) -> Routing:
    """The next state with ``version`` no longer mirrored.

    Raises:
        UsageError: that version is no shadow.
    """
    others = [other for other in routing.shadows if other.version != version]
    if len(others) == len(routing.shadows):
        raise UsageError(f"'{version}' is no shadow of '{routing.flow}'; shadows: {_names(routing) or 'none'}")
    return next_state(routing, actor, reason, decision_id, shadows=others)


def promoted(routing: Routing, version: str, *, actor: str, reason: str, decision_id: str | None = None) -> Routing:
    """The next state with the shadow or canary ``version`` live and the live model kept as ``previous``.

    Keys of other canaries stay with them; those of the promoted one and of the old live model are all live's now.

    Raises:
        UsageError: that version is neither, so nobody has seen it on live traffic.
    """
    chosen = next((other for other in [*routing.canaries, *routing.shadows] if other.version == version), None)
    if chosen is None:
        raise UsageError(
            f"'{version}' is no shadow or canary of '{routing.flow}'; start it as a shadow first. "
            f"Shadows: {_names(routing) or 'none'}"
        )
    return next_state(
        routing, actor, reason, decision_id, live=_plain(chosen), previous=routing.live, **_others(routing, version)
    )


def rolled_back(routing: Routing, *, actor: str, reason: str, decision_id: str | None = None) -> Routing:
    """The next state with the previous model live again. A second rollback returns to the model left here.

    Every canary ends: it was compared with a model that turned out to be bad, and in an emergency one model answers.

    Raises:
        UsageError: no model was live before this one.
    """
    if routing.previous is None:
        raise UsageError(f"'{routing.flow}' has no earlier live model to go back to")
    roles = {**_others(routing, routing.previous.version), "canaries": []}
    return next_state(routing, actor, reason, decision_id, live=routing.previous, previous=routing.live, **roles)


def next_state(routing: Routing, actor: str, reason: str, decision_id: str | None, **changes: object) -> Routing:
    """The state after ``routing`` with some fields changed. The first canary begins an epoch, the last one ends it.

    A rollout ends with the role of its candidate.
    """
    canaries = changes.get("canaries", routing.canaries)
    kept = {name: getattr(routing, name) for name in ("flow", "live", "shadows", "canaries", "rollouts", "previous")}
    after: dict[str, Any] = {**kept, **changes}
    candidates = {one.version for one in [*after["shadows"], *after["canaries"]]}
    fields = {
        **after,
        "rollouts": [one for one in after["rollouts"] if one.version in candidates],
        "n": routing.n + 1,
        "epoch": (routing.epoch or routing.n + 1) if canaries else None,
        "ts": utcnow(),
        "actor": actor,
        "reason": reason,
        "decision_id": decision_id,
    }
    return Routing.model_validate(fields)


def _others(routing: Routing, version: str) -> dict[str, object]:
    """Shadows and canaries without ``version``."""
    return {
        "shadows": [shadow for shadow in routing.shadows if shadow.version != version],
        "canaries": [canary for canary in routing.canaries if canary.version != version],
    }


def _plain(variant: Variant) -> Variant:
    return Variant(version=variant.version, folder=variant.folder)


def _names(routing: Routing) -> str:
    return ", ".join(shadow.version for shadow in routing.shadows)


def _newest_listed(store: Store, flow: str) -> int:
    numbers = [name.rpartition("/")[2].removesuffix(".json") for name in store.list(f"{prefix(flow)}/")]
    return max((int(number) for number in numbers if number.isdigit()), default=0)
