"""The roles a model can have in a routing beside being live: shadow and canary."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from flywheel.records import Record
from flywheel.rollout.slots import Range, overlap, ticks, width


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

    def placed(self) -> dict[str, Any]:
        """Which model, and where it is: what it keeps in every role."""
        return {"version": self.version, "folder": self.folder, "base": self.base, "adapter": self.adapter}


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


class Canary(Variant):
    """A model that answers a share of the keys (users, sessions) for real. See ``assignment`` for who gets it."""

    share: float = Field(gt=0, lt=1, description="in whole millionths")
    slots: list[Range] = Field(
        default_factory=list[Range], description="its places on the line; `with_canary` gives them"
    )
    tenants: list[str] = Field(
        default_factory=list[str], description="only for these tenants' requests; empty: for everybody's"
    )

    @model_validator(mode="after")
    def _places_are_the_share(self) -> Canary:
        if ticks(self.share) < 1 or abs(ticks(self.share) / ticks(1) - self.share) > 1e-9:
            raise ValueError(f"a share is a whole number of millionths, got {self.share!r}")
        if self.slots and (overlap(self.slots) or width(self.slots) != ticks(self.share)):
            raise ValueError(f"the slots of '{self.version}' are not a share of {self.share:g}: {self.slots}")
        return self

    def takes(self, tenant: str) -> bool:
        """Whether requests of ``tenant`` may be assigned to it."""
        return not self.tenants or tenant in self.tenants

    def holds(self, place: int) -> bool:
        """Whether a place on the line is its own."""
        return any(start <= place < end for start, end in self.slots)
