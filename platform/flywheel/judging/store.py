"""Judgements in the lake: each question is put to a judge once, each row is stored once."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from flywheel.errors import BusyError, EngineError
from flywheel.judging.judge import Judge, Notify, Opinion, Pair
from flywheel.lake.schemas import from_arrow
from flywheel.lake.tables import Lake
from flywheel.records import Judgement, Purpose, utcnow

TABLE: Final = "judgements"
BLOCK: Final = 256
"""Pairs between two commits: a killed run asks at most so many again."""
_ATTEMPTS: Final = 20
_QUESTION: Final = 24
"""Hex digits that name a question in the id of a judgement."""
_SAME: Final = Opinion("tie", "tie")


@dataclass
class Judged:
    """What became of some pairs. ``dropped``: reason -> pairs that the judge was not shown."""

    rows: list[Judgement] = field(default_factory=list[Judgement])
    asked: int = 0
    reused: int = 0
    failed: int = 0
    dropped: Counter[str] = field(default_factory=Counter[str])


def judge_pairs(
    lake: Lake, flow: str, judge: Judge, pairs: Sequence[Pair], *, on_progress: Notify | None = None
) -> Judged:
    """Put pairs to a judge, store what it says, and give back the rows, also those that were there before.

    The judge is not asked about a pair whose person does not agree (``no_consent:<purpose>``), one that it was asked
    about before in whatever versions' names, and one of two equal answers, which is a tie. Questions that failed are
    counted and not stored: the next run asks them again.

    Raises:
        EngineError: the judge answered nothing of a whole block.
        BusyError: other runs of this judge won every commit.
    """
    done = Judged()
    allowed: dict[str, Pair] = {}
    for pair in pairs:
        if missing := missing_purpose(pair, judge.needs):
            done.dropped[f"no_consent:{missing}"] += 1
        else:
            allowed.setdefault(judgement_id(flow, judge.version, pair), pair)
    stored = _stored(lake, flow, judge.version, questions={_question(key) for key in allowed})
    known = {_question(row.judgement_id): Opinion(row.forward, row.backward, row.error) for row in stored}
    done.rows = [row for row in stored if row.judgement_id in allowed]
    done.reused = len(done.rows)
    there = {row.judgement_id for row in stored}
    open_ = [(key, pair) for key, pair in allowed.items() if key not in there]
    work = _Work(lake, flow, judge, known, done)
    for start in range(0, len(open_), BLOCK):
        work.block(open_[start : start + BLOCK])
        if on_progress:
            on_progress(min(start + BLOCK, len(open_)), len(open_))
    return done


def read_judgements(lake: Lake, flow: str, judge: str, *, left: str, right: str) -> list[Judgement]:
    """What one version of a judge said about two versions, turned so that ``left`` is the left one."""
    import pyarrow.compute as pc

    rows = lake.read(TABLE, flow=flow).filter(pc.field("judge") == judge)
    either = [left, right]
    rows = rows.filter(pc.field("left_version").isin(either) & pc.field("right_version").isin(either))
    return [row if row.left_version == left else _mirrored(row) for row in from_arrow(rows, Judgement)]


def count_judgements(lake: Lake, flow: str, judge: str) -> int:
    """How many rows one version of a judge has in a flow."""
    return lake.read(TABLE, flow=flow, columns=["judge"])["judge"].to_pylist().count(judge)


def missing_purpose(pair: Pair, needs: Collection[Purpose]) -> Purpose | None:
    """What the pair may not be used for, though the judge needs it."""
    return next(iter(sorted(set(needs) - pair.purposes)), None)


def judgement_id(flow: str, judge: str, pair: Pair) -> str:
    """The question (judge, item, both answers), a dash, and in whose names it is asked."""
    question = _digest(flow, judge, pair.item_id, pair.left, pair.right)
    return f"{question[:_QUESTION]}-{_digest(pair.left_version, pair.right_version)[:8]}"


def _question(identity: str) -> str:
    return identity.partition("-")[0]


def _stored(lake: Lake, flow: str, judge: str, *, questions: Collection[str]) -> list[Judgement]:
    """Rows that answer some questions, in whatever versions' names."""
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = lake.read(TABLE, flow=flow).filter(pc.field("judge") == judge)
    wanted = [_question(identity) in questions for identity in rows["judgement_id"].to_pylist()]
    return from_arrow(rows.filter(pa.array(wanted, pa.bool_())), Judgement)


@dataclass
class _Work:
    """Some pairs of one judge under way; ``known``: question -> opinion."""

    lake: Lake
    flow: str
    judge: Judge
    known: dict[str, Opinion]
    done: Judged

    def block(self, block: Sequence[tuple[str, Pair]]) -> None:
        """Ask what is not known, and store a row for each pair."""
        known, done = self.known, self.done
        fresh = {_question(key): pair for key, pair in block if _question(key) not in known}
        known |= {question: _SAME for question, pair in fresh.items() if pair.left == pair.right}
        opinions = self._ask({question: pair for question, pair in fresh.items() if question not in known})
        known |= opinions
        rows = [_row(self.flow, self.judge, key, pair, known[_question(key)]) for key, pair in block
                if _question(key) in known]  # fmt: skip
        self._append(rows)
        done.rows += rows
        done.asked += len(opinions)
        done.reused += len(rows) - len(opinions)
        done.failed += len(block) - len(rows)

    def _ask(self, pairs: dict[str, Pair]) -> dict[str, Opinion]:
        """Opinions by question, without those that failed."""
        opinions = dict(zip(pairs, self.judge.compare(list(pairs.values())), strict=True)) if pairs else {}
        answered = {question: opinion for question, opinion in opinions.items() if not opinion.failed}
        if opinions and not answered:
            raise EngineError(
                f"the judge answered none of {len(opinions)} questions ({next(iter(opinions.values())).error}); look "
                "at its log, then run this again: judgements so far are kept"
            )
        return answered

    def _append(self, rows: Sequence[Judgement]) -> None:
        """Append exactly once: rows that another run of the same judge stored meanwhile are left out."""
        app = f"{TABLE}/{self.flow}/{self.judge.version}"
        for _ in range(_ATTEMPTS):
            last = self.lake.last_committed(TABLE, app)
            stored = self.lake.read(TABLE, flow=self.flow, columns=["judgement_id"])
            there = set(stored["judgement_id"].to_pylist())
            fresh = [row for row in rows if row.judgement_id not in there]
            if not fresh or self.lake.append(TABLE, fresh, app=app, version=0 if last is None else last + 1):
                return
        raise BusyError("other runs of this judge are being stored; run this one again in a moment")


def _row(flow: str, judge: Judge, key: str, pair: Pair, opinion: Opinion) -> Judgement:
    return Judgement(
        judgement_id=key,
        flow=flow,
        ts=utcnow(),
        judge=judge.version,
        item_id=pair.item_id,
        subject=pair.subject,
        left_version=pair.left_version,
        right_version=pair.right_version,
        verdict=opinion.verdict,
        forward=opinion.forward,
        backward=opinion.backward,
        left_length=len(pair.left),
        right_length=len(pair.right),
        error=opinion.error,
    )


def _mirrored(row: Judgement) -> Judgement:
    turned = {"left": "right", "right": "left"}
    return row.model_copy(
        update={
            "left_version": row.right_version,
            "right_version": row.left_version,
            "left_length": row.right_length,
            "right_length": row.left_length,
            "verdict": turned.get(row.verdict, row.verdict),
            "forward": turned.get(row.backward, row.backward),  # what is left now was shown first backward
            "backward": turned.get(row.forward, row.forward),
        }
    )


def _digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
