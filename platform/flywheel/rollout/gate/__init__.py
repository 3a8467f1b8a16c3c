"""The gate: one file a group of conditions, ``decide`` adds them up. Pure."""

from flywheel.rollout.gate.condition import Outcome
from flywheel.rollout.gate.decide import BY_PEOPLE, decide
from flywheel.rollout.gate.evidence import (
    Agreement,
    Behaviour,
    Change,
    GateInput,
    GateResult,
    Lineage,
    SuiteEvidence,
)

__all__ = [
    "BY_PEOPLE",
    "Agreement",
    "Behaviour",
    "Change",
    "GateInput",
    "GateResult",
    "Lineage",
    "Outcome",
    "SuiteEvidence",
    "decide",
]
