"""The gate: one file a group of conditions, ``decide`` adds them up. Pure."""

from flywheel.rollout.gate.condition import Outcome
from flywheel.rollout.gate.decide import decide
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
