"""Supervised fine-tuning: weighted next-token cross-entropy.

The loss of one optimizer step is ``sum(w * ce) / sum(w)`` over *all* tokens of the global batch. The
denominator is known before the step (the batch plan is pure), so no rank has to ask another one, and
the result does not depend on how examples are spread over ranks and micro-batches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def weighted_loss_sum(logits: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted sum of next-token cross-entropies.

    Args:
        logits: ``[batch, tokens, vocabulary]``; position t scores token t + 1.
        ids: token ids ``[batch, tokens]``.
        weights: loss weight of each token *as a target*, ``[batch, tokens]``; column 0 is ignored.

    Returns:
        A scalar in nats, connected to ``logits`` even when every weight is 0 (a filler batch must still
        take part in the collectives of backward).
    """
    from torch.nn import functional

    wanted = weights[:, 1:] != 0
    scores = logits[:, :-1][wanted].float()  # only these rows pay for the softmax over the vocabulary
    losses = functional.cross_entropy(scores, ids[:, 1:][wanted], reduction="none")
    return (losses * weights[:, 1:][wanted]).sum()


def step_scale(total_weight: float, world_size: int, accumulation: int) -> float:
    """Factor that turns a rank's sum into what DeepSpeed must be given.

    DeepSpeed divides by ``accumulation`` in backward and averages gradients over ``world_size`` ranks;
    this undoes both, so that the applied gradient is that of the weighted mean over the global batch.
    """
    return world_size * accumulation / total_weight
