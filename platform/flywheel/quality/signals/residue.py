"""Personal data that anonymisation left in what would be trained on."""

from __future__ import annotations

from flywheel.quality.signals.context import Context, Measured
from flywheel.quality.signals.declare import Declared
from flywheel.text.personal_data import detect
from flywheel.text.surrogates import is_surrogate


def signal(measured: Measured, context: Context) -> float | None:
    """How many pieces of personal data, surrogates not counted, are in the messages and the target."""
    texts = [*(message.content for message in measured.row.messages), measured.row.target]
    privacy = context.privacy
    return float(
        sum(
            not is_surrogate(span.kind, span.value)
            for text in texts
            for span in detect(
                text, detectors=privacy.detectors, names=context.names, phone_regions=privacy.phone_regions
            )
        )
    )


RESIDUE = Declared(
    name="personal_data", version="2", cost="free", scope="row", group="safety", scale="pieces, lower is better",
    inputs=("messages", "target", "privacy", "names"),
    measures="e-mail addresses, phones, cards, accounts, IP addresses and listed names that are no surrogates",
    gamed="spelt-out or split data (\"ada at example dot org\"); names that no list has",
    function=signal,
)  # fmt: skip
