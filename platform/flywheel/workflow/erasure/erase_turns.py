"""Erase one person from what turns left behind, and mark what was made of their data.

Turns keep working copies: subjects and texts in artifacts, candidates in a local folder, drops beside a dataset.
Datasets and models cannot be unlearnt row by row: they are marked, the gate refuses marked ones, and the next turn
starts from the newest model that is not.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from flywheel.lake.erasures import lines_without, mark_tainted
from flywheel.lake.manifests import ROOT as MANIFESTS
from flywheel.lake.manifests import Manifest, list_manifests
from flywheel.lake.store import ObjectStore, Strip
from flywheel.lake.tables import Lake
from flywheel.records import utcnow
from flywheel.workflow.erasure.trace import Trace
from flywheel.workflow.turns.looks import looks
from flywheel.workflow.turns.steps import Artifact, TurnHandle, turn_ids
from flywheel.workflow.turns.turn import step_key

CANDIDATE_FILES: Final = tuple(
    f"{name}.jsonl" for name in ("candidates", "taught", "build-drops", "preferences", "preference-drops", "quarantine")
)
"""Rows of a turn's folder that name people and what they said."""
ENDED: Final = "a person was erased, and rows that it was built on are gone"


def mark_descendants(lake: Lake, trace: Trace, *, dry: bool = False) -> list[str]:
    """Mark every manifest that names one of the traced ids, and all that was made of marked ones.

    Returns:
        The marked manifests, as ``kind/id``, marked now or before (``dry``: that would be).
    """
    manifests = {item.ref: item for item in _manifests(lake)}
    refs = {item.id: ref for ref, item in manifests.items()}  # a parent may be named without its kind
    named = {ref: sum(text in trace.ids for text in set(_texts(item.data))) for ref, item in manifests.items()}
    tainted = {ref for ref, rows in named.items() if rows}
    while heirs := {ref for ref, item in manifests.items() if ref not in tainted and _parents(item, refs) & tainted}:
        tainted |= heirs
    for ref in tainted if not dry else ():
        mark_tainted(lake.store, manifests[ref], rows=named[ref])
    return sorted(tainted)


def erase_artifacts(store: ObjectStore, trace: Trace, *, dry: bool = False) -> int:
    """Remove the person from the artifacts of every turn; returns how many entries went."""
    removed = 0
    for turn in _turns(store):
        for step, clean in _ARTIFACTS.items():
            removed += store.strip(turn.key(step_key(step)), _json_without(clean, trace), dry=dry)
        for key in looks(turn):
            removed += store.strip(key, _json_without(_clean_evaluate, trace), dry=dry)
    return removed


def erase_drops(store: ObjectStore, trace: Trace, *, dry: bool = False) -> int:
    """Remove the person's rows from the lists of what no dataset kept, and of what feedback is in quarantine."""
    reacted = trace.answers | trace.reacted

    def theirs(row: dict[str, Any]) -> bool:
        return row["inference_id"] in (reacted if "feedback_id" in row else trace.answers)

    without = lines_without(theirs)
    return sum(store.strip(key, without, dry=dry) for key in store.list("drops"))


def erase_markers(store: ObjectStore, trace: Trace, *, dry: bool = False) -> int:
    """Remove what reviewers noted beside the labels: retracted labels, skipped answers."""
    gone = trace.labels | trace.answers
    keys = [key for key in store.list("labels") if key.rsplit("/", 1)[-1] in gone]
    if not dry:
        store.delete(keys)
    return len(keys)


def erase_work(home: Path, trace: Trace, *, dry: bool = False) -> int:
    """Remove the person from the working folders of this machine's turns, and drafts of cases; how many rows went.

    The encoded examples of a training that did not end go as a whole: nobody can tell whose they are.
    """
    without, removed = lines_without(_candidate_of(trace)), 0
    for turn in sorted((home / "turns").glob("*/*")):
        files = [turn / "candidates" / name for name in CANDIDATE_FILES]
        found = sum(_strip_file(path, without, dry=True) for path in files)
        if found and not dry:
            shutil.rmtree(turn / "train", ignore_errors=True)  # first: the rows are what a rerun would find it by
            for path in files:
                _strip_file(path, without, dry=False)
        removed += found
    drafts = [path for path in (home / "run").glob("case-*.yaml") if path.stem in trace.cases]
    for path in drafts:
        if not dry:
            path.unlink(missing_ok=True)
    return removed + len(drafts)


def erase_reports(home: Path, trace: Trace, *, dry: bool = False) -> int:
    """Remove this machine's reports if cases of the person may be in them; ``flywheel report`` makes them again."""
    files = sorted((home / "reports").glob("*/*.html")) if trace.cases else []
    for path in files if not dry else ():
        path.unlink(missing_ok=True)
    return len(files)


def end_turns(store: ObjectStore) -> list[str]:
    """End the unfinished turns that have not trained yet: rows and table versions that they need are gone.

    One that has trained goes on to the gate, which refuses its model and takes it out of the shadow.
    """
    ended = []
    for turn in _turns(store):
        begun = turn.read(step_key("snapshot")) is not None
        if begun and turn.read(step_key("train")) is None and turn.read("finished") is None:
            turn.write("finished", {"decision": "inconclusive", "reasons": [ENDED], "at": utcnow().isoformat()})
            ended.append(f"{turn.flow}/{turn.turn_id}")
    return ended


def _clean_split(artifact: Artifact, trace: Trace) -> int:
    excluded = artifact["excluded"]
    removed = _drop_keys(artifact["failure_sides"], {trace.subject}) + _drop_keys(excluded["subjects"], {trace.subject})
    removed += _drop_keys(excluded["inference_ids"], trace.answers)
    for name in ("texts", "decisive"):
        kept = [text for text in excluded[name] if text not in trace.texts]
        removed += len(excluded[name]) - len(kept)
        excluded[name] = kept
    return removed


def _clean_train(artifact: Artifact, trace: Trace) -> int:
    return _drop_keys(artifact["dropped"], trace.examples)


def _clean_evaluate(artifact: Artifact, trace: Trace) -> int:
    removed = sum(_drop_keys(slices, trace.slices) for slices in artifact["slices"].values())
    return removed + _drop_ids(artifact.get("changed", {}), trace)


def _clean_gate(artifact: Artifact, trace: Trace) -> int:
    return _drop_ids({"lineage": (artifact.get("lineage") or {}).get("overlap", {})}, trace)


def _drop_ids(lists: dict[str, dict[str, list[str]]], trace: Trace) -> int:
    """From lists of ids, two levels down."""
    gone, removed = trace.ids | trace.cases, 0
    for entries in lists.values():
        for name, ids in entries.items():
            entries[name] = [identity for identity in ids if identity not in gone]
            removed += len(ids) - len(entries[name])
    return removed


_ARTIFACTS: Final[dict[str, Callable[[Artifact, Trace], int]]] = {
    "split": _clean_split,
    "train": _clean_train,
    "evaluate": _clean_evaluate,
    "gate": _clean_gate,
}
"""Steps whose artifacts hold subjects, texts or ids -> how they go; returns how many entries went."""


def _drop_keys(entries: dict[str, Any], gone: Iterable[str]) -> int:
    doomed = entries.keys() & set(gone)
    for name in doomed:
        del entries[name]
    return len(doomed)


def _json_without(clean: Callable[[Artifact, Trace], int], trace: Trace) -> Strip:
    def without(data: bytes) -> tuple[bytes, int]:
        artifact: Artifact = json.loads(data)
        removed = clean(artifact, trace)
        return json.dumps(artifact, sort_keys=True).encode(), removed

    return without


def _candidate_of(trace: Trace) -> Callable[[dict[str, Any]], bool]:
    made_of = trace.answers | trace.reacted

    def doomed(row: dict[str, Any]) -> bool:
        people = (row.get("subject"), row.get("rater"), *row.get("raters", ()))
        return not made_of.isdisjoint((row["inference_id"], row.get("other_id"))) or trace.subject in people

    return doomed


def _strip_file(path: Path, without: Strip, *, dry: bool) -> int:
    """``ObjectStore.strip`` for a local file that nobody else writes."""
    if not path.exists():
        return 0
    kept, removed = without(path.read_bytes())
    if removed and not dry:
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.write_bytes(kept)
        draft.replace(path)
    return removed


def _turns(store: ObjectStore) -> Iterator[TurnHandle]:
    for flow in store.folders("turns"):
        for turn_id in turn_ids(store, flow):
            yield TurnHandle(store, flow, turn_id)


def _manifests(lake: Lake) -> Iterator[Manifest]:
    for kind in lake.store.folders(MANIFESTS):
        for flow in lake.store.folders(f"{MANIFESTS}/{kind}"):
            yield from list_manifests(lake, kind, flow)


def _parents(item: Manifest, refs: dict[str, str]) -> set[str]:
    return {refs.get(parent, parent) for parent in item.parents}


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
