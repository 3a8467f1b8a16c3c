"""The signals: one file each, declared there, and the dict below is the registry.

A signal is a pure function of one row and a ``Context`` that holds what is known about all rows. None means
not measured: such a row neither passes nor fails a threshold on it. Signals that need a network or a judge are
measured beforehand (``measuring``); their function only looks the value up.
"""

from __future__ import annotations

from collections.abc import Iterable

from flywheel.quality.signals import trust
from flywheel.quality.signals.abandoned import ABANDONED
from flywheel.quality.signals.agreement import AGREEMENT
from flywheel.quality.signals.clicked import CLICKED
from flywheel.quality.signals.comment import COMMENT
from flywheel.quality.signals.comparison import COMPARISON
from flywheel.quality.signals.completed import COMPLETED
from flywheel.quality.signals.context import Context, Measured
from flywheel.quality.signals.copied import COPIED
from flywheel.quality.signals.declare import Declared
from flywheel.quality.signals.distance import DISTANCE
from flywheel.quality.signals.dwell import DWELL
from flywheel.quality.signals.engagement import ENGAGEMENT
from flywheel.quality.signals.explicit import EXPLICIT
from flywheel.quality.signals.form import FORMAT
from flywheel.quality.signals.language import LANGUAGE
from flywheel.quality.signals.length import LENGTH
from flywheel.quality.signals.networked import JUDGE, PERPLEXITY, PREDICTED, REPROMPT_SEMANTIC, REWARD, TOXICITY
from flywheel.quality.signals.repetition import REPETITION
from flywheel.quality.signals.reprompt import REPROMPT
from flywheel.quality.signals.residue import RESIDUE
from flywheel.quality.signals.reward import MARGIN, PERCENTILE, PREFERENCE, WINS

TRUST = Declared(
    name="rater_trust", version="1", cost="free", scope="rows", group="rater", scale="[0, 1], higher is better",
    inputs=("rater", "preference", "agreement", "raters", "mean_support"),
    measures="how far the rater's other rows are supported by the reward model and by other people",
    gamed="earn trust with easy rows, spend it on bad ones; fresh accounts start at the mean",
    function=trust.signal, decides=("untrusted_rater", "too_few_votes"),
)  # fmt: skip

RELIABILITY = Declared(
    name="rater_reliability", version="1", cost="free", scope="row", group="rater", scale="[0, 1], higher is better",
    inputs=("rater_reliability",),
    measures="how often the rater is right, by Dawid-Skene over everybody's votes",
    gamed="agree with everybody on popular questions: a vote that rests on the rater's word alone is not helped by it",
    function=trust.reliability,
)  # fmt: skip

SIGNALS: dict[str, Declared] = {
    one.name: one
    for one in (
        EXPLICIT, COMPARISON, DISTANCE, COMMENT, COPIED, CLICKED, DWELL, COMPLETED, ABANDONED, REPROMPT, ENGAGEMENT,
        FORMAT, LANGUAGE, LENGTH, REPETITION, RESIDUE, AGREEMENT, MARGIN, PREFERENCE, WINS, PERCENTILE, TRUST,
        RELIABILITY, REPROMPT_SEMANTIC, REWARD, PERPLEXITY, TOXICITY, PREDICTED, JUDGE,
    )
}  # fmt: skip


def measure(
    row: Measured, context: Context, signals: Iterable[Declared] | None = None
) -> dict[str, float | None]:  # fmt: skip
    """Signals of one row (all of them by default), rounded to six digits so that a rerun stores the same bytes."""
    wanted = SIGNALS.values() if signals is None else signals
    values = {one.name: one(row, context) for one in wanted}
    return {name: None if value is None else round(float(value), 6) for name, value in values.items()}
