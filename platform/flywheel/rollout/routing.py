"""The one truth about who answers: ``routing/<flow>/<n>.json``, each object written once, never changed.

The newest number is in force. A change reads the newest object, derives the next one with a pure function
below, and publishes it put-if-absent: of two writers at the same moment one wins and the other gets a
``BusyError``. Gateways and the engine controller poll; everything else about routing (MLflow aliases, the
``decisions`` table) is a projection of these objects.
"""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from pydantic import Field, ValidationError, model_validator

from flywheel.errors import BusyError, LakeError, UsageError
from flywheel.records import Record, utcnow


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


class Variant(Record):
    """A model that can answer."""

    version: str = Field(min_length=1, description="registered version; its engine app is engine-<version>")
    folder: str = Field(description="where its weights are: a folder, or an address the engine can load")
    base: str | None = Field(default=None, description="version whose engine it may ride on with its adapter")
    adapter: str | None = Field(default=None, description="folder of its LoRA adapter to `base`; see rollout.riders")

    @model_validator(mode="after")
    def _both_or_neither(self) -> Variant:
        if (self.base is None) != (self.adapter is None):
            raise ValueError(f"'{self.version}': an adapter needs the base it belongs to; give both or neither")
        return self


class Shadow(Variant):
    """A model that answers a share of the consented live traffic, unseen."""

    share: float = Field(default=1.0, gt=0, le=1)
    max_concurrency: int | None = Field(default=None, ge=1, description="at one replica; like all below, empty means "
                                        "what GatewayConfig says")  # fmt: skip
    queue: int | None = Field(default=None, ge=0, description="requests waiting at one replica")
    timeout_s: float | None = Field(default=None, gt=0)
    requests_per_minute: float | None = Field(default=None, gt=0, description="all replicas together")
    tokens_per_minute: float | None = Field(default=None, gt=0, description="all replicas together")
    priority: int | None = Field(default=None, ge=0, description="in the engine; live requests have 0, the first")


class Routing(Record):
    """One state of the routing of one flow. Produced by rollout, consumed by gateways and the controller."""

    n: int = Field(ge=1, description="number of this state; the next one is n + 1")
    flow: str
    live: Variant
    shadows: list[Shadow] = Field(default_factory=list)
    previous: Variant | None = Field(default=None, description="the live model before this one: rollback's target")
    ts: datetime
    actor: str
    reason: str
    decision_id: str | None = None

    @model_validator(mode="after")
    def _one_role_each(self) -> Routing:
        names = [self.live.version, *(shadow.version for shadow in self.shadows)]
        if len(names) != len(set(names)):
            raise ValueError(f"a version has one role at a time, got {names}")
        return self

    def variants(self) -> list[Variant]:
        """The live model and every shadow: the engines that must run."""
        return [self.live, *self.shadows]


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
    if not store.put_if_absent(key(routing.flow, routing.n), routing.model_dump_json(indent=1).encode()):
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
        UsageError: that version is live.
    """
    if shadow.version == routing.live.version:
        raise UsageError(f"'{shadow.version}' is the live model and cannot shadow itself")
    others = [other for other in routing.shadows if other.version != shadow.version]
    return _next(routing, actor, reason, decision_id, shadows=[*others, shadow])


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
    return _next(routing, actor, reason, decision_id, shadows=others)


def promoted(routing: Routing, version: str, *, actor: str, reason: str, decision_id: str | None = None) -> Routing:
    """The next state with the shadow ``version`` live and the live model kept as ``previous``.

    Raises:
        UsageError: that version is no shadow, so nobody has seen it on live traffic.
    """
    chosen = next((shadow for shadow in routing.shadows if shadow.version == version), None)
    if chosen is None:
        raise UsageError(
            f"'{version}' is no shadow of '{routing.flow}'; start it as a shadow first. "
            f"Shadows: {_names(routing) or 'none'}"
        )
    others = [shadow for shadow in routing.shadows if shadow.version != version]
    return _next(routing, actor, reason, decision_id, live=_plain(chosen), previous=routing.live, shadows=others)


def rolled_back(routing: Routing, *, actor: str, reason: str, decision_id: str | None = None) -> Routing:
    """The next state with the previous model live again. A second rollback returns to the model left here.

    Raises:
        UsageError: no model was live before this one.
    """
    if routing.previous is None:
        raise UsageError(f"'{routing.flow}' has no earlier live model to go back to")
    others = [shadow for shadow in routing.shadows if shadow.version != routing.previous.version]
    return _next(routing, actor, reason, decision_id, live=routing.previous, previous=routing.live, shadows=others)


def _next(routing: Routing, actor: str, reason: str, decision_id: str | None, **changes: object) -> Routing:
    fields = {
        **{name: getattr(routing, name) for name in ("flow", "live", "shadows", "previous")},
        **changes,
        "n": routing.n + 1,
        "ts": utcnow(),
        "actor": actor,
        "reason": reason,
        "decision_id": decision_id,
    }
    return Routing.model_validate(fields)


def _plain(variant: Variant) -> Variant:
    return Variant(version=variant.version, folder=variant.folder)


def _names(routing: Routing) -> str:
    return ", ".join(shadow.version for shadow in routing.shadows)


def _newest_listed(store: Store, flow: str) -> int:
    numbers = [name.rpartition("/")[2].removesuffix(".json") for name in store.list(f"{prefix(flow)}/")]
    return max((int(number) for number in numbers if number.isdigit()), default=0)
