"""Signals that networks measure beforehand: what they say about themselves."""

from __future__ import annotations

from collections.abc import Callable

from flywheel.quality.signals.context import Context, Measured
from flywheel.quality.signals.declare import Declared


def _looked_up(name: str) -> Callable[[Measured, Context], float | None]:
    def signal(measured: Measured, context: Context) -> float | None:  # noqa: ARG001  (one signature for all signals)
        return measured.heavy.get(name)

    return signal


REWARD = Declared(
    name="reward", version="1", cost="model", scope="row", group="reward",
    scale="log-odds or the models' own unit, higher is better", inputs=("messages", "target", "heavy"),
    measures="reward models from elsewhere on the target; of several, mean - lambda * standard deviation",
    gamed="length, lists, flattery and confident tone; whatever its training data mistook for quality",
    function=_looked_up("reward"), setting="reward.models",
)  # fmt: skip
PERPLEXITY = Declared(
    name="perplexity", version="1", cost="model", scope="row", group="likelihood",
    scale="1 and up; low is what the model would have said", inputs=("messages", "target", "heavy"),
    measures="perplexity of the target under the live model: low teaches little, very high is often garbage",
    gamed="fluent nonsense and repetition are likely; the model's own mistakes look best of all",
    function=_looked_up("perplexity"), setting="perplexity.enabled",
)  # fmt: skip
TOXICITY = Declared(
    name="toxicity", version="1", cost="model", scope="row", group="safety", scale="[0, 1], lower is better",
    inputs=("target", "heavy"),
    measures="probability of the classifier's toxic label for the target",
    gamed="polite cruelty and spelling tricks pass; dialects, and words for groups of people, are flagged wrongly",
    function=_looked_up("toxicity"), setting="toxicity.model",
)  # fmt: skip
REPROMPT_SEMANTIC = Declared(
    name="reprompt_semantic", version="1", cost="encoder", scope="row", group="did", scale="[-1, 1], lower is better",
    inputs=("messages", "evidence.next_message", "heavy"),
    measures="cosine of the person's next message and this one: was the same asked again, in whatever words?",
    gamed="a new session hides the repetition; a follow-up on the same topic is close, too",
    function=_looked_up("reprompt_semantic"), setting="similarity.encoder",
)  # fmt: skip
JUDGE = Declared(
    name="judge", version="1", cost="external", scope="row", group="judge", scale="[0, 1], higher is better",
    inputs=("messages", "target", "heavy"),
    measures="the mark that the judge of `judging` gives the target",
    gamed="pleading, length, and answers in the judge's own style; a judge prefers its own model family",
    function=_looked_up("judge"), setting="judge.enabled",
)  # fmt: skip
PREDICTED = Declared(
    name="engagement_predicted", version="1", cost="model", scope="rows", group="did",
    scale="[-1, 1], higher is better",
    inputs=("messages", "answer", "target", "origin", "evidence.up", "evidence.down", "evidence.rating",
            "evidence.copies", "evidence.clicks", "evidence.completions", "evidence.abandons", "evidence.reprompts",
            "evidence.dwell_ms", "heavy"),
    measures="what people would do with the target, by a network with a head an action; rare harm weighs most",
    gamed="bait that is clicked and copied; actions the product reports for some answers only",
    function=_looked_up("engagement_predicted"), setting="engagement.enabled",
)  # fmt: skip
