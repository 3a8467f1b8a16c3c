"""What the candidate was made of: no personal data, nothing erased, a filter that holds, judges kept apart."""

from __future__ import annotations

import math
from collections.abc import Iterator

from flywheel.config import GatePolicy
from flywheel.rollout.gate.condition import Condition, Outcome, at_least, condition, missing
from flywheel.rollout.gate.evidence import GateInput, Lineage


def origins(given: GateInput, policy: GatePolicy) -> list[Condition]:
    """Conditions about the training data and about who judges."""
    return [
        _leaks(given, policy),
        _contamination(given),
        _erased(given),
        *_audit(given, policy),
        _separate(given),
    ]


def _leaks(given: GateInput, policy: GatePolicy) -> Condition:
    leaks = given.leaks
    if leaks is None:
        return missing("no_leaks", "The training examples were not scanned for personal data.")
    text = (
        f"{leaks} pieces of personal data were found in the training examples; at most {policy.max_leaks} may be there."
    )
    outcome = Outcome.PASS if 0 <= leaks <= policy.max_leaks else Outcome.FAIL
    return condition("no_leaks", outcome, text, measured=leaks, threshold=policy.max_leaks)


def _contamination(given: GateInput) -> Condition:
    name, rows = "no_contamination", given.contamination
    if rows is None:
        return missing(name, "The training examples were not compared with the cases that decide.")
    text = (
        f"{rows} training examples overlap with cases that decide about the candidate"
        f"{': its score on them proves nothing' if rows else ''}."
    )
    return condition(name, Outcome.FAIL if rows else Outcome.PASS, text, measured=rows, threshold=0)


def _erased(given: GateInput) -> Condition:
    name, marked = "no_erased_data", given.erased
    if marked is None:
        return missing(name, "It is not known what the candidate was made of, so erased data may be in it.")
    text = "Nothing that made the candidate was erased since."
    if marked:
        text = (
            f"A person was erased whose data made the candidate ({', '.join(sorted(marked))}). "
            "Run a new turn: it starts from the newest model without such data."
        )
    outcome = Outcome.FAIL if marked else Outcome.PASS
    return condition(name, outcome, text, measured=len(marked), threshold=0)


def _audit(given: GateInput, policy: GatePolicy) -> Iterator[Condition]:
    """Goodhart's law: a filter tuned on some labels must still be right about labels that nothing was tuned on."""
    limit, found = policy.min_audit_agreement, given.audit
    if limit is None:
        return
    if found is None or not all(map(math.isfinite, (found.rate, found.low, found.high))):
        yield missing("audit_agreement", "No audit labels say whether the filter keeps what is right; label some.")
        return
    wanted = policy.min_audit_labels
    yield at_least("audit_labels", found.n, wanted, f"{found.n} audit labels judge the filter; {wanted} are needed.")
    text = (
        f"The filter decided as the audit labels do in {found.rate:.1%} of {found.n} "
        f"({found.low:.1%} to {found.high:.1%}); all of the interval must lie at or above {limit:.1%}."
    )
    beyond = Outcome.WAIT if found.n < wanted and found.high >= limit else Outcome.FAIL
    outcome = Outcome.PASS if found.low >= limit else beyond
    yield condition(
        "audit_agreement", outcome, text, measured=found.rate, threshold=limit, interval=(found.low, found.high)
    )


def _separate(given: GateInput) -> Condition:
    name, lineage, required = "separate_judges", given.lineage, given.required_instruments
    absent = sorted(required) if lineage is None else sorted(set(required) - lineage.used.keys())
    if lineage is None or not lineage.judged_by or absent:
        what = f" (no record of: {', '.join(absent)})" if absent else ""
        return missing(name, f"It is not known which data judged the candidate and which made it{what}.")
    overlap = lineage.overlap()
    shared = sorted({identity for ids in overlap.values() for identity in ids})
    text = "Nothing that judges the candidate was used to make it."
    if shared:
        text = (
            f"Data kept for judging was also used to make the candidate: "
            f"{', '.join(_guilty(lineage, maker, ids) for maker, ids in overlap.items())}. Its score proves nothing. "
            "`flywheel report` names what is on both sides."
        )
    return condition(name, Outcome.FAIL if shared else Outcome.PASS, text, measured=len(shared), threshold=0)


def _guilty(lineage: Lineage, maker: str, ids: list[str]) -> str:
    sources = lineage.sources.get(maker)
    where = f" from {', '.join(sources)}" if sources else ""
    return f"{maker} ({len(ids)}){where}"
