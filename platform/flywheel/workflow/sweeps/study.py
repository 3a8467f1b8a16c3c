"""One batch of proposals: Optuna asks and is told in this process. No Ray in it."""

from __future__ import annotations

from collections.abc import Sequence

from flywheel.config import FilterConfig, SweepConfig
from flywheel.workflow.sweeps.outcomes import Outcome, evaluate, value
from flywheel.workflow.sweeps.rows import TuneRows
from flywheel.workflow.sweeps.space import space


def study(
    rows: TuneRows, start: FilterConfig, config: SweepConfig, *, seed: int, known: Sequence[Outcome] = ()
) -> list[Outcome]:
    """Evaluate ``proposals_per_trial`` filters: ``start`` itself, then what TPE asks for.

    Args:
        rows: labelled rows, and those in which volume is counted.
        start: the filter whose values are varied.
        config: size of the batch, and what a wrong row costs.
        seed: of the sampler; the same arguments give the same outcomes.
        known: outcomes of earlier batches, which the sampler learns from before its first proposal.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    where = space()
    sampler = optuna.samplers.TPESampler(seed=seed)
    searcher = optuna.create_study(direction="maximize", sampler=sampler)
    for one in known:
        if one.params:
            told = value(one, rows, config.wrong_row_cost)
            searcher.add_trial(optuna.trial.create_trial(params=one.params, distributions=where, value=told))
    found = evaluate(rows, start, [{}])
    for _ in range(config.proposals_per_trial - 1):
        asked = searcher.ask(where)
        outcome = evaluate(rows, start, [asked.params])[0]
        searcher.tell(asked, value(outcome, rows, config.wrong_row_cost))
        found.append(outcome)
    return found
