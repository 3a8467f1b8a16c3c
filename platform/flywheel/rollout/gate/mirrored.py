"""What the candidate did on mirrored live traffic."""

from __future__ import annotations

from flywheel.config import GatePolicy
from flywheel.rollout.gate.condition import Condition, at_least, at_most, missing
from flywheel.rollout.gate.evidence import GateInput


def mirrored(given: GateInput, policy: GatePolicy) -> list[Condition]:
    """Enough pairs, few errors, quick enough. A shadow that is not required still counts where there was one."""
    shadow = given.shadow
    if shadow is None:
        told = "The candidate has not answered any live request in the shadow."
        return [missing("shadow_pairs", told)] if policy.require_shadow else []
    n, wanted = shadow.n, policy.min_shadow_pairs
    few = n < wanted
    ratio = shadow.latency_ratio
    times = "an unknown multiple of" if ratio is None else f"{ratio:.2f} times"
    return [
        at_least(
            "shadow_pairs",
            n,
            wanted,
            f"{n} live requests were mirrored to the candidate; at least {wanted} are needed.",
        ),
        at_most(
            "shadow_errors",
            shadow.error_rate,
            policy.max_shadow_error_rate,
            f"It failed on {shadow.errors} of {n} mirrored requests; at most {policy.max_shadow_error_rate:.1%} may.",
            few=few,
        ),
        at_most(
            "shadow_latency",
            ratio,
            policy.max_latency_ratio,
            f"Its typical answer takes {times} the live model's time; "
            f"at most {policy.max_latency_ratio:g} times is allowed.",
            few=few,
        ),
    ]
