"""Votes -> which are suspect and why. The rules in the order in which reasons are given.

The order is from the whole to the single: who is one actor, what does everybody else say, and only then what rests on
one actor's word alone. A vote that others confirm is not quarantined for what its rater did elsewhere, unless that
rater is wrong more often than right: an attacker who also says what everybody says does no harm with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from flywheel.config import TrustConfig
from flywheel.quality.trust import bursts, caps, sybils
from flywheel.quality.trust.agreement import Agreement, Votes, converges, dawid_skene
from flywheel.quality.trust.statements import Bools, Floats, Ints, Statements

EXCLUSIVE = 0.5
"""Prompts on which people agree more often than this have one right answer."""
CHANCE = 0.5
BELIEVED = 0.5
"""A cell below this is believed by nobody in particular; agreeing on it links nobody."""
TEXT_VOTES = 5
"""Votes for one text that others can judge, before the text itself is judged: five of five are not chance."""
Z = 1.96
PRIOR_VOTES = 4.0
"""Weight of the mean reliability in a rater's own while truth and reliabilities are estimated together."""
FEW_VOTES = 2.0
"""The same where a rater is judged by it: an account that said little, and was wrong, has little to show for it."""


@dataclass(frozen=True)
class Evidence:
    """Everything the rules read, by vote unless said otherwise."""

    said: Statements
    actor: Ints
    members: Ints
    """Accounts of the vote's actor."""
    agreement: Agreement
    supported: Floats
    others: Ints
    ring: Ints
    bad_text: Bools
    """Praise of, or correction to, a text that is wrong wherever others can tell."""
    reliability: Floats
    """By actor; where nobody else spoke, a vote for such a text counts as wrong."""

    def confirmed(self, config: TrustConfig) -> Bools:
        """Others say the same."""
        return (self.others > 0) & (self.supported >= config.confirmed)


@dataclass(frozen=True)
class Verdict:
    """By vote: a reason, or an empty text; and what every rater's word is worth."""

    reasons: list[str]
    details: list[str]
    reliability: dict[str, float]
    """By rater, where others said something about their votes."""


def examine(said: Statements, config: TrustConfig) -> Verdict:
    """All rules over all votes; the first that holds is the reason."""
    count = len(said.row)
    if not config.enabled or not count:
        return Verdict([""] * count, [""] * count, {})
    found = weigh(said, config)
    reasons = np.full(count, "", dtype=object)
    details = np.full(count, "", dtype=object)
    for reason, rule in RULES.items():
        hit = np.flatnonzero(rule(found, config) & (reasons == ""))
        reasons[hit] = reason
        details[hit] = [DETAILS[reason](found, vote) for vote in hit.tolist()]
    return Verdict(reasons.tolist(), details.tolist(), _reliability(found))


def weigh(said: Statements, config: TrustConfig) -> Evidence:
    """Who is one actor, how reliable each is, and what the others say about every vote."""
    slots = {"seconds": config.burst_seconds, "shared": config.lockstep_votes, "overlap": config.lockstep_overlap}
    actor = sybils.merged(len(said.raters), np.hstack([sybils.same_session(said), sybils.lockstep(said, **slots)]))
    agreement, place, counted = _agree(said, actor[said.rater])
    believed = agreement.believed[said.cell] > BELIEVED
    ring = sybils.rings(
        actor[said.rater], said.cell, said.text, said.positive & believed,
        least_accounts=config.ring_accounts, least_votes=config.ring_votes,
    )  # fmt: skip
    # People change their minds: the last vote is the one that was counted.
    same = said.positive == said.positive[counted[place]]
    supported = np.where(same, agreement.supported[place], 1 - agreement.supported[place])
    judged = said.positive & (agreement.others[place] > 0)
    bad = _bad_text(said, judged, supported < 1 - config.confirmed)
    guilt = np.bincount(actor[said.rater][bad & ~judged], minlength=len(agreement.reliability))
    before, known = agreement.evidence + PRIOR_VOTES, agreement.evidence + FEW_VOTES
    own = (agreement.reliability * before - (PRIOR_VOTES - FEW_VOTES) * agreement.mean) / known
    return Evidence(
        said=said, actor=actor[said.rater], members=np.bincount(actor)[actor[said.rater]], agreement=agreement,
        supported=supported, others=agreement.others[place], ring=ring, bad_text=bad,
        reliability=np.clip(own, 0, 1) * known / (known + guilt),
    )  # fmt: skip


def _bad_text(said: Statements, judged: Bools, wrong: Bools) -> Bools:
    """Votes for texts of which most of what others can judge is wrong; the lower Wilson bound of the share decides."""
    groups = int(said.text.max()) + 1
    total = np.bincount(said.text[judged], minlength=groups).astype(np.float64)
    share = np.bincount(said.text[judged & wrong], minlength=groups) / np.maximum(total, 1)
    half = Z**2 / np.maximum(total, 1)
    spread = np.sqrt(half * share * (1 - share) + half**2 / 4)
    bad = (total >= TEXT_VOTES) & (share + half / 2 - spread > 0.5 * (1 + half))
    return bad[said.text] & said.positive


def _agree(said: Statements, actor: Ints) -> tuple[Agreement, Ints, Ints]:
    """The estimate on one vote an actor and cell (the last); each statement's vote, and each vote's statement."""
    order = np.lexsort((said.row, said.at))
    key = actor * max(1, len(said.cell_item)) + said.cell
    _, last, place = np.unique(key[order][::-1], return_index=True, return_inverse=True)
    kept = order[::-1][last]
    votes = Votes(actor[kept], said.cell[kept], said.positive[kept], said.cell_item, exclusive=False)
    share = converges(votes)
    if share is not None and share > EXCLUSIVE:
        votes = Votes(votes.actor, votes.cell, votes.positive, votes.cell_item, exclusive=True)
    found = np.empty(len(actor), dtype=np.int64)
    found[order[::-1]] = place
    return dawid_skene(votes, prior_votes=PRIOR_VOTES), found, kept


def _ring(found: Evidence, config: TrustConfig) -> Bools:  # noqa: ARG001  (one signature for all rules)
    return found.ring >= 0


def _burst(found: Evidence, config: TrustConfig) -> Bools:
    said = found.said
    dense = bursts.bursting(
        found.actor, said.at, groups=int(found.actor.max()) + 1, seconds=config.burst_seconds,
        factor=config.burst_factor, least=config.burst_votes,
    )  # fmt: skip
    return dense & ~found.confirmed(config)


def _contradicted(found: Evidence, config: TrustConfig) -> Bools:
    return (found.others >= config.min_voices) & (found.supported <= config.contradicted)


def _hostile(found: Evidence, config: TrustConfig) -> Bools:
    """Worse than a coin where others can tell: of such a rater nothing counts, not even what is confirmed.

    And worse than people are in general: where they hardly agree, the estimate of all falls towards a coin's.
    """
    general = found.agreement.mean - config.reliability_gap
    return (found.reliability < min(CHANCE, general))[found.actor]


def _unreliable(found: Evidence, config: TrustConfig) -> Bools:
    low = found.reliability < found.agreement.mean - config.reliability_gap
    return low[found.actor] & ~found.confirmed(config)


def _text(found: Evidence, config: TrustConfig) -> Bools:
    return found.bad_text & ~found.confirmed(config)


def _cap(found: Evidence, config: TrustConfig) -> Bools:
    alone = ~found.confirmed(config)
    return caps.over_cap(found.actor, alone, config.max_unconfirmed, found.said.at)


Rule = Callable[[Evidence, TrustConfig], Bools]

RULES: dict[str, Rule] = {
    "ring": _ring,
    "burst": _burst,
    "hostile_rater": _hostile,
    "contradicted": _contradicted,
    "contradicted_text": _text,
    "unreliable_rater": _unreliable,
    "over_cap": _cap,
}
"""Reason -> suspect votes."""


def _record(found: Evidence, vote: int) -> str:
    actor, agreement = found.actor[vote], found.agreement
    return (
        f"right {found.reliability[actor]:.0%}, by {agreement.evidence[actor]} judged votes; all {agreement.mean:.0%}"
    )


def _saying(text: str) -> Callable[[Evidence, int], str]:
    return lambda found, vote: text.format(
        others=found.others[vote], supported=found.supported[vote], members=found.members[vote]
    )


DETAILS: dict[str, Callable[[Evidence, int], str]] = {
    "ring": _saying("accounts that agree with each other and with nobody else"),
    "burst": _saying("far more votes in a short time than other people give"),
    "hostile_rater": _record,
    "contradicted": _saying("{others} others leave it {supported:.0%}"),
    "unreliable_rater": _record,
    "contradicted_text": _saying("a text that most others call wrong where they speak"),
    "over_cap": _saying("unconfirmed votes beyond the cap of one actor ({members} accounts)"),
}
"""Reason -> what the numbers were. No name of a person: these texts outlive an erasure."""


def _reliability(found: Evidence) -> dict[str, float]:
    by_actor = found.agreement
    pairs = np.unique(np.stack([found.said.rater, found.actor]), axis=1)
    return {
        found.said.raters[rater]: round(float(found.reliability[actor]), 4)
        for rater, actor in zip(pairs[0].tolist(), pairs[1].tolist(), strict=True)
        if by_actor.evidence[actor]
    }
