"""Step 4: verdicts, caps, near-duplicates and replay shares -> weighted examples, a manifest and a funnel.

A pure function of the candidates, their signals and the configuration: the same input gives the same
dataset id. Every row that is not in the dataset is written beside it with its reason.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flywheel.config import DedupConfig, FilterConfig, FlywheelConfig
from flywheel.config.loader import config_hash
from flywheel.errors import NotFoundInLakeError
from flywheel.lake.keys import Keyring
from flywheel.lake.manifests import Manifest, content_id, write_manifest
from flywheel.lake.tables import Lake
from flywheel.quality.build import BuildResult, ConsentRule, HeardRule, Snapshot, build, quarantine_key
from flywheel.quality.dedup import near_duplicates
from flywheel.quality.filters import Columns, verdicts
from flywheel.quality.filters_check import check_filter
from flywheel.quality.filters_weights import weigh
from flywheel.quality.known import known_groups, notice, report
from flywheel.quality.replay import cap, cap_total, replay_liked, replay_older, taught_share, without
from flywheel.quality.reward import RewardModels, train_reward
from flywheel.quality.rows import Candidate, Drop, Exclusions, Funnel
from flywheel.quality.score import ScoreResult, SignalTable, read_signals, score
from flywheel.quality.semantic import encoder_of, semantic_duplicates
from flywheel.records import Example, Record, utcnow
from flywheel.telemetry import Progress, Silent
from flywheel.text.hashing import stable_hash

NOT_UNIQUE = frozenset({"duplicate", "near_duplicate", "conflicting_target", "semantic_duplicate"})


class Dataset(Record):
    """A named training set: the manifest holds the row ids, ``read_examples`` the rows."""

    id: str
    flow: str
    examples: int
    corrections: int
    liked: int
    taught: int = 0
    funnel: Funnel
    filter_version: str
    drops_key: str


@dataclass(frozen=True)
class Selection:
    """Rows kept and dropped; together they are all the rows that came in."""

    kept: list[Candidate]
    drops: list[Drop]
    weights: Mapping[str, float] = field(default_factory=dict[str, float])
    """Inference id -> loss weight; rows that are not in it weigh 1."""


def curate(
    lake: Lake,
    config: FlywheelConfig,
    keyring: Keyring,
    *,
    snapshot: Snapshot,
    consented: ConsentRule,
    heard: HeardRule,
    excluded: Exclusions,
    turn_id: str,
    live_model: Path,
    work: Path,
    code_version: str = "unknown",
    progress: Progress | None = None,
) -> Dataset:
    """All steps in a row, with the configured filter. A turn calls them one by one to persist each."""
    built = build(
        lake, config, snapshot=snapshot, consented=consented, heard=heard, excluded=excluded, work=work,
        progress=progress,
    )  # fmt: skip
    base = Path(config.quality.reward.base or live_model)
    models = train_reward(lake, config, built, base=base, code_version=code_version, progress=progress)
    scored = score(lake, config, built, models, live_model=live_model, progress=progress)
    return curate_rows(
        lake, config, keyring, built, models=models, scored=scored, filter_config=config.quality.filter,
        snapshot=snapshot, turn_id=turn_id, code_version=code_version, progress=progress,
    )  # fmt: skip


def curate_rows(
    lake: Lake,
    config: FlywheelConfig,
    keyring: Keyring,
    built: BuildResult,
    *,
    models: RewardModels,
    scored: ScoreResult,
    filter_config: FilterConfig,
    snapshot: Snapshot,
    turn_id: str,
    code_version: str = "unknown",
    parents: Sequence[str] = (),
    older: Collection[str] = frozenset(),
    progress: Progress | None = None,
) -> Dataset:
    """Decide with ``filter_config`` and write drops, examples and manifest, in that order.

    ``parents`` are further manifests the dataset depends on, such as the sweep's ``filter/<id>``. ``older`` are the
    inferences that the model to train learnt from before (``replay.learnt_before``), for ``older_per_new``.

    Raises:
        ConfigError: the filter reads a signal that nothing measures.
    """
    progress = progress or Silent()
    check_filter(filter_config)
    progress.start("curation", f"filter {filter_config.version}")
    signals = read_signals(lake, config, scored)
    rows = built.rows()
    known = known_groups(lake, config, filter_config, rows)
    chosen = select(
        rows, signals, filter_config, max_examples=config.quality.max_examples, seed=config.seed,
        older=older,
        taught=built.taught_rows(), groups_of=known.of if known else None, dedup=config.quality.dedup,
    )  # fmt: skip
    funnel = count(built, chosen)
    examples = [to_example(row, chosen.weights.get(row.inference_id, 1.0)) for row in chosen.kept]
    lineage = [*([f"reward/{models.id}"] if models.folds else []), *parents]
    identity = content_id("dataset", config.flow, [example.example_id for example in examples],
                          filter_config.model_dump(mode="json"), lineage, scored.version, funnel)  # fmt: skip
    key = f"drops/{config.flow}/{identity}.jsonl"
    drops = sorted(built.drops() + chosen.drops, key=lambda drop: drop.inference_id)
    lake.store.put(key, "".join(f"{drop.model_dump_json()}\n" for drop in drops).encode())
    lake.append("examples", examples, app=f"examples/{config.flow}/{identity}", version=1, flow=config.flow)
    tables = [f"{table}@{version}" for table, version in sorted(snapshot.items()) if version is not None]
    macs = [keyring.row_mac(lake.store, example.subject, example.example_id) for example in examples]
    data = {
        "rows": [[one.example_id, one.inference_ids, mac] for one, mac in zip(examples, macs, strict=True)],
        "filter": filter_config.model_dump(mode="json"),
        "reward": models.id if models.folds else None,
        "signals": scored.version,
        "signal_versions": scored.versions,
        "quarantine": quarantine_key(config.flow, built.id) if built.quarantined else None,
        "snapshot": {table: version for table, version in sorted(snapshot.items()) if version is not None},
        "funnel": funnel.model_dump(mode="json"),
        "drops": key,
        "near_duplicates": report(known),
        "older": None if filter_config.older_per_new is None else sum(row.inference_id in older for row in chosen.kept),
        "first_turn": turn_id,
    }
    write_manifest(lake, Manifest(
        kind="dataset", id=identity, flow=config.flow, created=utcnow(), parents=[*lineage, *tables],
        code_version=code_version, config_hash=config_hash(config.quality), seed=config.seed, data=data,
    ))  # fmt: skip
    progress.finish(f"kept {funnel.kept:,} of {funnel.captured:,} captured{notice(known.counts if known else None)}")
    origins = Counter(example.origin for example in examples)
    return Dataset(
        id=identity, flow=config.flow, examples=len(examples), corrections=origins["correction"],
        liked=origins["liked"], taught=origins["taught"], funnel=funnel,
        filter_version=filter_config.version, drops_key=key,
    )  # fmt: skip


def select(
    rows: Sequence[Candidate],
    signals: SignalTable,
    config: FilterConfig,
    *,
    max_examples: int,
    seed: int,
    older: Collection[str] = frozenset(),
    taught: Sequence[Candidate] = (),
    groups_of: Callable[[Sequence[str]], list[int]] | None = None,
    dedup: DedupConfig | None = None,
) -> Selection:
    """Pure: hold-outs, filter, near-duplicates, one person's cap, replay shares, total cap; in that order.

    ``taught`` is what the live model was taught with; nobody judged it, so it meets no rule, and its share counts.
    ``groups_of`` knows near-duplicates by their ids; ``dedup`` may name an encoder that finds those in other words.
    """
    held = [row for row in [*rows, *taught] if row.held_out is not None]
    taught = [row for row in taught if row.held_out is None]
    drops = [Drop(inference_id=row.inference_id, reason="held_out", detail=row.held_out) for row in held]
    kept = [row for row in rows if row.held_out is None]
    reward = {row.inference_id: _reward(signals.get(row.inference_id, {})) for row in kept}
    passed = verdicts(Columns.of(kept, signals), config)
    drops += [verdict for verdict in passed if isinstance(verdict, Drop)]
    kept = [row for row, verdict in zip(kept, passed, strict=True) if not isinstance(verdict, Drop)]
    if not config.enabled:
        return Selection([*kept, *taught], drops)

    def best(row: Candidate) -> tuple[float, int, str]:
        return -reward[row.inference_id], stable_hash(str(seed), row.inference_id), row.inference_id

    rehearsed = min(len(taught), round(max_examples * config.taught_per_other / (1 + config.taught_per_other)))
    room = max_examples - rehearsed
    drawn = older if config.older_per_new is not None else frozenset[str]()
    steps: list[Callable[[list[Candidate]], tuple[list[Candidate], list[Drop]]]] = [
        lambda some: near_duplicates(some, threshold=config.near_duplicate_jaccard, reward=reward, groups_of=groups_of),
        lambda some: _meaning(some, dedup or DedupConfig(), reward),
        lambda some: _cap_people(some, config.max_per_subject, best),
        lambda some: replay_liked(some, config.liked_per_correction, seed, least=config.least_replayed),
        lambda some: replay_older(some, config.older_per_new, older, seed, most=room),
        lambda some: cap_total(some, room, drawn, best),
    ]
    for step in steps:
        kept, more = step(kept)
        drops += more
    again, more = taught_share(taught, len(kept), config.taught_per_other, seed)
    return Selection([*kept, *again], drops + more, _weights(kept, signals, config))


def _weights(kept: Sequence[Candidate], signals: SignalTable, config: FilterConfig) -> dict[str, float]:
    if config.weights is None:
        return {}
    columns = Columns.of(kept, signals)
    return dict(zip(columns.ids, weigh(columns, config.weights).tolist(), strict=True))


def _meaning(
    rows: list[Candidate], config: DedupConfig, reward: Mapping[str, float]
) -> tuple[list[Candidate], list[Drop]]:
    encode = encoder_of(config)
    if encode is None:
        return rows, []
    return semantic_duplicates(rows, encode, threshold=config.semantic_cosine, reward=reward)


def count(built: BuildResult, chosen: Selection) -> Funnel:
    """The funnel of the whole dataset: captured minus every drop is what was kept."""
    reasons = Counter(built.dropped) + Counter(drop.reason for drop in chosen.drops)
    repeated = sum(number for reason, number in reasons.items() if reason in NOT_UNIQUE)
    return Funnel(
        captured=built.captured,
        consented=built.consented,
        unique=built.consented - repeated,
        kept=len(chosen.kept),
        dropped=dict(sorted(reasons.items())),
    )


def to_example(row: Candidate, weight: float = 1.0) -> Example:
    """A training row; its id is its content, so the same row in two datasets is the same example.

    A weight is part of the content: datasets that weigh a row differently do not overwrite each other's.
    """
    rejected = row.answer if row.origin == "correction" else None
    weighed = () if weight == 1.0 else (weight,)
    return Example(
        example_id=content_id("ex", row.flow, row.inference_id, row.target, row.origin, *weighed), weight=weight,
        flow=row.flow, messages=row.messages, target=row.target,
        chosen=row.target if rejected is not None else None, rejected=rejected,
        inference_ids=[row.inference_id], subject=row.subject, origin=row.origin,
    )  # fmt: skip


def read_examples(lake: Lake, manifest: Manifest) -> list[Example]:
    """The examples of a dataset, in the manifest's order.

    Raises:
        NotFoundInLakeError: rows of the dataset were erased or their table is not complete.
    """
    wanted = [row[0] for row in manifest.data["rows"]]
    known = set(wanted)
    found = {
        row.example_id: row for row in lake.records("examples", Example, flow=manifest.flow) if row.example_id in known
    }
    if len(found) < len(known):
        raise NotFoundInLakeError(
            f"{len(known) - len(found)} of {len(known)} examples of {manifest.id} are gone; curate a new dataset."
        )
    return [found[example_id] for example_id in wanted]


def _reward(signals: Mapping[str, float | None]) -> float:
    """One number to rank rows by: mean of preference and agreement, 0 where neither was measured."""
    values = [value for name in ("preference", "agreement") if (value := signals.get(name)) is not None]
    return sum(values) / len(values) if values else 0.0


def _cap_people(
    rows: list[Candidate], most: int, best: Callable[[Candidate], object]
) -> tuple[list[Candidate], list[Drop]]:
    people: dict[str, list[Candidate]] = defaultdict(list)
    for row in rows:
        people[row.rater].append(row)
    drops = [drop for own in people.values() for drop in cap(own, most, "over_subject_cap", best)[1]]
    return without(rows, drops), drops
