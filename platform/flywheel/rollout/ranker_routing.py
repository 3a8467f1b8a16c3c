"""Which ranker orders lists: ``ranking/<flow>/<n>.json``, the routing of rankers.

Like ``routing`` each object is written once, put-if-absent, and the newest number is in force; rankers have objects of
their own because they change without the model that answers, and it without them. No live ranker means the product's
own scores, which is also where a rollback of the first one leads. Gateways poll this and nothing else.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field, ValidationError

from flywheel.errors import BusyError, LakeError, UsageError
from flywheel.records import Reason, Record, utcnow
from flywheel.rollout.routing import Store

RankerAction = Literal["ranker_shadow", "ranker_unshadow", "ranker_promote", "ranker_rollback"]


class RankerVariant(Record):
    """A ranker's version, and what its files are found and checked by."""

    version: str
    content: str = Field(description="content hash")


class RankerRouting(Record):
    """One state. Produced by ``ranker_steps``, consumed by gateways."""

    n: int = Field(ge=1)
    flow: str
    live: RankerVariant | None = Field(default=None, description="none: the product's own scores")
    shadows: list[RankerVariant] = Field(
        default_factory=list[RankerVariant], description="score beside it, for the record"
    )
    previous: RankerVariant | None = None
    replaced: bool = Field(
        default=False, description="something was live before the present ranker, if only scores of the product"
    )
    action: RankerAction
    concerns: str = Field(description="version that the action is about")
    ts: datetime
    actor: str
    reason: str
    reasons: list[Reason] = Field(default_factory=list[Reason], description="promotion: what the candidate showed")
    decision_id: str

    def variants(self) -> list[RankerVariant]:
        """All that gateways load."""
        return [*([self.live] if self.live else []), *self.shadows]


def key(flow: str, n: int) -> str:
    """The key of one state."""
    return f"ranking/{flow}/{n}.json"


def current(store: Store, flow: str) -> RankerRouting | None:
    """The state in force; None before the first."""
    names = [name.rpartition("/")[2].removesuffix(".json") for name in store.list(f"ranking/{flow}/")]
    newest = max((int(name) for name in names if name.isdigit()), default=0)
    return read(store, flow, newest) if newest else None


def newer(store: Store, flow: str, seen: int) -> RankerRouting | None:
    """The state in force when it is newer than number ``seen``, else None: one probe when it is not."""
    if seen and not store.exists(key(flow, seen + 1)):
        return None
    found = current(store, flow)
    return found if found is not None and found.n > seen else None


def read(store: Store, flow: str, n: int) -> RankerRouting:
    """One state.

    Raises:
        LakeError: it is not there, or is none.
    """
    data = store.get_or_none(key(flow, n))
    if data is None:
        raise LakeError(f"{key(flow, n)} is not in the lake; list ranking/{flow}/ for the numbers that are")
    try:
        return RankerRouting.model_validate_json(data)
    except ValidationError as error:
        raise LakeError(
            f"{key(flow, n)} is no routing of rankers ({error.error_count()} problems); restore it"
        ) from error


def publish(store: Store, state: RankerRouting) -> None:
    """Put a state in force.

    Raises:
        BusyError: somebody else published that number first.
    """
    if not store.put_if_absent(key(state.flow, state.n), state.model_dump_json(indent=1).encode()):
        raise BusyError(f"the rankers of '{state.flow}' were changed by somebody else meanwhile; repeat the command")


def with_shadow(now: RankerRouting | None, flow: str, candidate: RankerVariant, **why: str) -> RankerRouting | None:
    """The next state with ``candidate`` as the only shadow; None: it is, or it is live."""
    if now is not None and (now.shadows == [candidate] or now.live == candidate):
        return None
    return _next(now, flow, "ranker_shadow", candidate.version, shadows=[candidate], **why)


def without_shadows(now: RankerRouting | None, flow: str, **why: str) -> RankerRouting | None:
    """The next state without shadows; None: there is none."""
    if now is None or not now.shadows:
        return None
    return _next(now, flow, "ranker_unshadow", now.shadows[-1].version, shadows=[], **why)


def promoted(
    now: RankerRouting | None, flow: str, version: str, *, reasons: list[Reason], **why: str
) -> RankerRouting | None:
    """The next state with the shadow ``version`` live; None: it is live.

    Raises:
        UsageError: it is no shadow, so nothing is known of it.
    """
    if now is not None and now.live is not None and now.live.version == version:
        return None
    chosen = next((one for one in (now.shadows if now else []) if one.version == version), None)
    if chosen is None or now is None:
        raise UsageError(f"'{version}' is in no shadow of '{flow}'; start it: flywheel ranker shadow {version}")
    changes = {"live": chosen, "previous": now.live, "replaced": True, "shadows": []}
    return _next(now, flow, "ranker_promote", version, reasons=reasons, **changes, **why)


def rolled_back(now: RankerRouting | None, flow: str, **why: str) -> RankerRouting:
    """The next state with what was live before, if only the product's own scores.

    Raises:
        UsageError: no ranker is live, or it came by a rollback itself.
    """
    if now is None or now.live is None or not now.replaced:
        raise UsageError(
            f"no ranker of '{flow}' was promoted since the last rollback, so there is nothing to go back from"
        )
    changes = {"live": now.previous, "previous": now.live, "replaced": False, "shadows": []}
    return _next(now, flow, "ranker_rollback", now.live.version, **changes, **why)


def _next(
    now: RankerRouting | None, flow: str, action: RankerAction, concerns: str, **changes: object
) -> RankerRouting:
    n = now.n + 1 if now else 1
    kept = {name: getattr(now, name) for name in ("live", "shadows", "previous", "replaced")} if now else {}
    fields = {
        **kept, "flow": flow, "n": n, "action": action, "concerns": concerns, "ts": utcnow(),
        "decision_id": f"{action}-{flow}-{n}", **changes,
    }  # fmt: skip
    return RankerRouting.model_validate(fields)
