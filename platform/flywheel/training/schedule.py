"""Learning rate as a pure function of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math


def learning_rate(step: int, *, steps: int, peak: float, warmup_ratio: float) -> float:
    """Linear warm-up, then half a cosine down to 0 (Loshchilov & Hutter 2017, eq. 5, one cycle).

    Args:
        step: optimizer step, counted from 0.
        steps: number of optimizer steps of the run.
        peak: highest rate.
        warmup_ratio: share of ``steps`` spent rising.
    """
    warmup = math.ceil(steps * warmup_ratio)
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return peak * 0.5 * (1.0 + math.cos(math.pi * progress))
