"""Does a proxy rise while the audit falls? One look a turn, with a bounded chance of any false alarm. Pure.

A look compares the answers of the newest period with those of all earlier ones together: of the first one alone would
be wrong for a model that got better before it was gamed. There are two ways to an alarm, each with half of alpha.

**Diverged**: a signal that rows are chosen by got better (Welch's t-test on people's means), *and* fewer answers are
right by the audit labels (Fisher's exact test, one label a person). The p-value of "both" is the larger one
(intersection-union test: Berger, Technometrics 24 (1982)), after Holm over the signals, any of which may speak up. So
neither an audit that falls alone (harder questions) nor a signal that rises alone is an alarm.

**Inflated**: what people do with answers became more favourable than right answers explain (``inflation``), and the
audit does not show that answers got better either: the burden of proof is on the proxy. Compared with the first audited
turn (or the last settled alarm), since inflation adds up and quality is accounted for. It shows long before a fall of
the audit can be shown with as few labels as there are; Holm over the reactions. That people became milder looks the
same, and is an alarm as well: whatever the reason, the reaction no longer means what it did.

The k-th look has the level (alpha / 2) * 6 / (pi k)^2; these sum to alpha / 2. Warnings have the same levels and hold
nothing back: the held-out signal fell while a proxy rose (it costs no labels, but it is a proxy as well), or a
reaction was inflated while answers got better.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from flywheel.config import GoodhartConfig
from flywheel.quality.goodhart.measures import audit_of, pair_rows, signal_row
from flywheel.quality.goodhart.tables import Audit, Divergence, Examination, Of, PairRow, Role, Rows, SignalRow
from flywheel.statistics.multiplicity import holm
from flywheel.statistics.proportions import Count, p_higher
from flywheel.statistics.spending import level

AUDIT = "audit"
BETTER_P = 0.05
"""One-sided p-value at which the audit shows that answers got better."""


@dataclass(frozen=True)
class Watched:
    """Who is examined: a flow's rows, which signals rows are chosen by, and what used the held-out one nevertheless."""

    answers: Rows
    targets: Rows | None
    proxies: Collection[str]
    held_out_used_by: Collection[str] = ()


def examine(
    watched: Watched,
    policy: GoodhartConfig,
    *,
    period: int,
    turn: str,
    at: datetime,
    looks: int,
    confidence: float = 0.95,
    pairs: bool = True,
    since: int = 0,
) -> Examination:
    """Look at one period.

    Args:
        watched: rows of this and all earlier periods; later ones are not looked at.
        policy: the flow's settings.
        period: which one, as in ``Rows.period``.
        turn: whose period it is.
        at: now.
        looks: tests that were made before.
        confidence: of the intervals in the table.
        pairs: whether to correlate the signals with each other.
        since: what a reaction means is read off the first period from this one on that has enough labels.
    """
    audit, before = (audit_of(_of(watched.answers, period, earlier=earlier)) for earlier in (False, True))
    reference = _reference(watched.answers, period, policy.min_people, since)
    table = _table(watched, policy, period, confidence, reference)
    look = _look(audit, before, policy.min_people, looks)
    limit = level(policy.alpha / 2, look) if look else None
    fall = p_higher(Count(audit.wrong, audit.people), Count(before.wrong, before.people)) if look else None
    found = Examination(
        turn=turn,
        at=at,
        look=look,
        level=limit,
        audit=audit,
        audit_before=before,
        fall_p=fall,
        signals=table,
        pairs=_pairs(watched, period, confidence) if pairs else [],
        held_out=policy.held_out,
        held_out_used_by=sorted(watched.held_out_used_by),
        text="",
    )
    if limit is not None and fall is not None:
        alarms, warnings = _findings(found, fall, limit)
        found = found.model_copy(update={"alarms": alarms, "warnings": warnings})
    return found.model_copy(update={"text": words(found, policy)})


def words(found: Examination, policy: GoodhartConfig) -> str:
    """The verdict in a sentence, with the numbers."""
    if found.alarms:
        text = "; ".join(one.text for one in found.alarms)
    elif found.look is None:
        text = (
            f"not enough labels: {found.audit.people:,} of {policy.min_people:,} people of {found.turn} have an audit "
            "label (flywheel label)"
        )
    elif found.look == 0:
        text = f"{found.turn} is the first period with enough labels: {_said(found.audit)}; later ones are compared"
    else:
        text = (
            f"no alarm: audit labels went from {_said(found.audit_before)} to {_said(found.audit)} "
            f"(p = {found.fall_p:.2g}, alarm at {found.level:.2g})"
        )
    if found.warnings:
        text += "; warning: " + "; ".join(one.text for one in found.warnings)
    if found.held_out_used_by:
        text += f"; {found.held_out} is no longer held out: {', '.join(found.held_out_used_by)} used it"
    return text


def _look(audit: Audit, before: Audit, least: int, looks: int) -> int | None:
    if audit.people < least:
        return None
    return looks + 1 if before.people >= least else 0


def _of(rows: Rows, period: int, *, earlier: bool) -> Rows:
    return rows.pick(rows.period < period if earlier else rows.period == period)


def _kinds(watched: Watched) -> Mapping[Of, Rows]:
    kinds: dict[Of, Rows] = {"answers": watched.answers}
    return kinds if watched.targets is None else {**kinds, "targets": watched.targets}


def _reference(answers: Rows, period: int, least: int, since: int) -> Rows | None:
    """The first period with enough labels: inflation adds up, and against the turn before it would look small."""
    for earlier in range(since, period):
        rows = _of(answers, earlier, earlier=False)
        if audit_of(rows).people >= least:
            return rows
    return None


def _table(
    watched: Watched, policy: GoodhartConfig, period: int, confidence: float, reference: Rows | None
) -> list[SignalRow]:
    table: list[SignalRow] = []
    for of, rows in _kinds(watched).items():
        now, before = (_of(rows, period, earlier=earlier) for earlier in (False, True))
        for name in sorted(rows.signals):
            role: Role = "watched"
            if name == policy.held_out:
                role = "held_out"
            elif name in watched.proxies:
                role = "proxy"
            sign = -1 if name in policy.lower_is_better else 1
            table.append(
                signal_row(
                    name,
                    of,
                    role,
                    now,
                    before,
                    reference=reference,
                    sign=sign,
                    least=policy.min_people,
                    confidence=confidence,
                )
            )
    return table


def _pairs(watched: Watched, period: int, confidence: float) -> list[PairRow]:
    found: list[PairRow] = []
    for of, rows in _kinds(watched).items():
        now = _of(rows, period, earlier=False)
        found += pair_rows(now, of, _measured(now), confidence)
    return found


def _measured(rows: Rows) -> list[str]:
    return [name for name, values in rows.signals.items() if not np.isnan(values).all()]


def _findings(found: Examination, fall: float, limit: float) -> tuple[list[Divergence], list[Divergence]]:
    """Alarms and warnings, the clearest first."""
    told = f"audit labels went from {_said(found.audit_before)} to {_said(found.audit)}"
    alarms = _diverged(found.signals, fall, limit, AUDIT, told)
    inflated = [one for one in _inflated(found.signals, limit, told) if one.signal not in {a.signal for a in alarms}]
    warnings = _by_held_out(found, limit)
    rose = p_higher(_right(found.audit), _right(found.audit_before)) <= BETTER_P
    return (alarms, inflated + warnings) if rose else (alarms + inflated, warnings)


def _diverged(table: Collection[SignalRow], fall: float, limit: float, witness: str, told: str) -> list[Divergence]:
    """Proxies that got better while the witness got worse."""
    rows = {row.signal: row for row in table if row.role == "proxy" and row.rise_p is not None}
    rises = holm({name: row.rise_p for name, row in rows.items() if row.rise_p is not None})
    both = {name: max(p, fall) for name, p in rises.items()}
    return [
        Divergence(signal=name, witness=witness, p_value=p, text=f"{_moved(rows[name])} while {told} {_at(p, limit)}")
        for name, p in _clear(both, limit)
    ]


def _inflated(table: Collection[SignalRow], limit: float, told: str) -> list[Divergence]:
    """Reactions that rows are chosen by, and that rose by more than right answers explain."""
    rows = {row.signal: row for row in table if row.role == "proxy" and row.inflation_p is not None}
    left = holm({name: row.inflation_p for name, row in rows.items() if row.inflation_p is not None})
    return [
        Divergence(
            signal=name,
            kind="inflated",
            witness=AUDIT,
            p_value=p,
            text=f"{name} rose by {rows[name].change:.2f} since the first audited turn, of which right answers explain "
            f"{rows[name].explained:+.2f}, while {told} {_at(p, limit)}",
        )
        for name, p in _clear(left, limit)
    ]


def _by_held_out(found: Examination, limit: float) -> list[Divergence]:
    row = next((row for row in found.signals if row.role == "held_out"), None)
    if row is None or row.fall_p is None or found.held_out_used_by:
        return []
    told = f"{_moved(row)}, which nothing is chosen by,"
    return _diverged(found.signals, row.fall_p, limit, row.signal, told)


def _clear(p_values: Mapping[str, float], limit: float) -> list[tuple[str, float]]:
    return sorted(((name, p) for name, p in p_values.items() if p <= limit), key=lambda item: (item[1], item[0]))


def _moved(row: SignalRow) -> str:
    return f"{row.signal} went from {row.level_before:.2f} to {row.level:.2f}"


def _at(p: float, limit: float) -> str:
    return f"(p = {p:.2g}, alarm at {limit:.2g})"


def _right(audit: Audit) -> Count:
    return Count(audit.people - audit.wrong, audit.people)


def _said(audit: Audit) -> str:
    share = audit.right_share
    return f"{share:.1%} of {audit.people:,} people right" if share is not None else "no label"
