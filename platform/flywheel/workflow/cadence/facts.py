"""What the cadence decides on, as the lake has it now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from flywheel.config import FlywheelConfig
from flywheel.lake.tables import Lake
from flywheel.records import utcnow
from flywheel.rollout import history, routing
from flywheel.rollout.gate import BY_PEOPLE
from flywheel.text.novelty import Said, new_topics
from flywheel.workflow.cadence.cadence import CadenceFacts, Cluster, Rating
from flywheel.workflow.cadence.drift_check import drift_tests
from flywheel.workflow.cadence.reactions import Judged, read_judged, read_questions
from flywheel.workflow.turns.goodhart.stored import standing
from flywheel.workflow.turns.steps import Artifact, TurnHandle, turn_ids
from flywheel.workflow.turns.turn import step_key


def gather(lake: Lake, config: FlywheelConfig, *, running: str | None, now: datetime | None = None) -> CadenceFacts:
    """The facts of a flow. ``running`` says who runs a turn, if somebody does."""
    now = now or utcnow()
    ids = turn_ids(lake.store, config.flow)
    turns = [TurnHandle(lake.store, config.flow, turn) for turn in reversed(ids)]
    unfinished = turns[0].turn_id if turns and turns[0].read("finished") is None else None
    saw, ended, fruitless = _last_turns(turns)
    judged = read_judged(lake, config.flow, now)
    truth = routing.current(lake.store, config.flow)
    return CadenceFacts(
        live=truth.live.version if truth else None,
        running=running,
        unfinished=unfinished,
        waits=_waits(lake, config.flow, unfinished) if unfinished else None,
        turn_saw=saw,
        turn_ended=ended,
        fruitless=fruitless,
        good=sum(row.good for row in judged),
        good_new=sum(row.good for row in judged if saw is None or row.seen > saw),
        least=config.quality.min_examples,
        ratings=_ratings(judged, truth.live.version, routing.live_since(lake.store, truth)) if truth else (),
        clusters=_clusters(lake, config, judged, saw, now) if saw else (),
        drift=tuple(drift_tests(lake.store, truth)) if truth else (),
        goodhart=_goodhart(lake, config),
    )


def _goodhart(lake: Lake, config: FlywheelConfig) -> tuple[str, ...]:
    """More turns on signals that are gamed would make it worse, so unattended ones wait for a person."""
    if not config.quality.goodhart.hold:
        return ()
    return tuple(look.text for look in standing(lake.store, config.flow))


def _waits(lake: Lake, flow: str, turn_id: str) -> str | None:
    """What a turn's last verdict still wants of people, where it wants nothing else and nobody has given it since."""
    rows = [row for row in history.decisions(lake, flow) if row.turn_id == turn_id]
    verdicts = [row for row in rows if row.action == "gate"]
    if not verdicts or verdicts[-1].verdict != "continue":
        return None
    last = verdicts[-1]
    open_ = {reason.name: reason.text for reason in last.reasons if reason.outcome == "wait"}
    if not open_.keys() <= BY_PEOPLE:
        return None
    if "approval" in open_ and history.approval(rows, candidate=last.candidate or "", evidence=last.evidence):
        del open_["approval"]
    if "judge_prefers" in open_ and _newest(lake, flow) > last.ts:
        del open_["judge_prefers"]
    return " ".join(open_.values()) or None


def _newest(lake: Lake, flow: str) -> datetime:
    """When a judge was last asked; the beginning of time where none was."""
    said = lake.read("judgements", flow=flow, columns=["ts"])["ts"].to_pylist()
    return max(said, default=datetime.min.replace(tzinfo=UTC))


def _last_turns(newest_first: Sequence[TurnHandle]) -> tuple[datetime | None, datetime | None, int]:
    """When the last finished turn looked at the tables, when it ended, and how many in a row promoted nothing."""
    saw = ended = None
    fruitless = 0
    for turn, finished in _finished(newest_first):
        if ended is None:
            ended = datetime.fromisoformat(finished["at"])
            saw = datetime.fromisoformat((turn.read(step_key("snapshot")) or finished)["at"])
        if finished["decision"] == "promote":
            break
        fruitless += 1
    return saw, ended, fruitless


def _finished(turns: Sequence[TurnHandle]) -> Iterator[tuple[TurnHandle, Artifact]]:
    """Turns that came to an end by themselves; one that somebody abandoned saw nothing."""
    for turn in turns:
        finished = turn.read("finished")
        if finished is not None and not finished.get("abandoned"):
            yield turn, finished


def _ratings(judged: Sequence[Judged], version: str, since: datetime) -> tuple[Rating, ...]:
    rows = (row for row in judged if row.may_judge and row.served_by == version and row.ts >= since)
    return tuple(Rating(row.seen, row.failed) for row in rows)


def _clusters(
    lake: Lake, config: FlywheelConfig, judged: Sequence[Judged], saw: datetime, now: datetime
) -> tuple[Cluster, ...]:
    """What people who met a failure wrote about since the last turn, and had not written about before it."""
    policy = config.cadence
    oldest = now - timedelta(days=policy.lookback_days)
    failures = [row for row in judged if row.failed and row.may_judge and row.seen >= oldest]
    recent = [row for row in failures if row.seen > saw]
    if len(recent) < policy.cluster_people:
        return ()
    earlier = [row for row in failures if row.seen <= saw]
    texts = read_questions(lake, config.flow, [*recent, *earlier])
    said = [Said(row.subject, text) for row, text in zip([*recent, *earlier], texts, strict=True)]
    topics = new_topics(
        said[: len(recent)], said[len(recent) :], least=policy.cluster_people, alpha=policy.cluster_alpha
    )
    return tuple(Cluster(topic.phrase, len(topic.members), topic.people) for topic in topics)
