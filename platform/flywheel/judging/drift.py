"""Has a judge changed behind its version? A fixed set of easy questions is asked again before its word counts.

``judging/<flow>/<judge>/probes`` holds what it said the first time, ``drifted`` that it said something else
later. A judge that drifted stays so: ``judging.revision`` makes a new version of it, with nothing cached.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from typing import Final

from flywheel.errors import EngineError
from flywheel.judging.judge import Judge, Pair
from flywheel.lake.tables import Lake
from flywheel.records import Message, Record

TOLERANCE: Final = 1
"""Probes that may come out otherwise: engines that batch are not exact to the last bit."""


class Probes(Record):
    """What a judge said about the probes, and what the model called itself."""

    verdicts: list[str]
    reported: list[str]


def check_drift(lake: Lake, flow: str, judge: Judge) -> str | None:
    """Ask the probes and compare; what is found is stored, so that ``drifted`` says the same.

    Raises:
        EngineError: the judge could not be asked.
    """
    now = ask_probes(judge)
    key = _key(flow, judge.version, "probes")
    if lake.store.put_if_absent(key, now.model_dump_json().encode()):
        return drifted(lake, flow, judge.version)
    if reason := compare(Probes.model_validate_json(lake.store.get(key)), now):
        lake.store.put_if_absent(_key(flow, judge.version, "drifted"), reason.encode())
    return drifted(lake, flow, judge.version)


def drifted(lake: Lake, flow: str, version: str) -> str | None:
    """Why this version of a judge is not what it was, or None."""
    found = lake.store.get_or_none(_key(flow, version, "drifted"))
    return None if found is None else found.decode()


def ask_probes(judge: Judge) -> Probes:
    """Both orders of every probe."""
    opinions = judge.compare(probes())
    if failed := next((opinion for opinion in opinions if opinion.failed), None):
        raise EngineError(f"the judge could not be asked its probes: {failed.error}; start it, then run this again")
    if all(opinion.forward == opinion.backward == "invalid" for opinion in opinions):
        raise EngineError(
            f"the judge answers none of its probes as asked ({opinions[0].error}); set judging.form to what its "
            "endpoint knows (json_schema, json_object or free), or take a more able model"
        )
    return Probes(
        verdicts=[f"{opinion.forward}/{opinion.backward}" for opinion in opinions], reported=sorted(judge.reported)
    )


def compare(first: Probes, now: Probes) -> str | None:
    """Why the two are not of the same judge, or None. A model that names itself anew is another one."""
    if strangers := sorted(set(now.reported) - set(first.reported)):
        return f"the model behind the judge was {', '.join(first.reported) or 'unnamed'}, now it is {strangers[0]}"
    changed = sum(before != after for before, after in zip(first.verdicts, now.verdicts, strict=False))
    changed += abs(len(first.verdicts) - len(now.verdicts))
    if changed > TOLERANCE:
        return f"the judge decides {changed} of {len(first.verdicts)} probes otherwise than at first"
    return None


def probes() -> Sequence[Pair]:
    """The fixed questions, the better answer on the left of every other one."""
    text = (resources.files("flywheel.judging") / "data" / "probes.json").read_text(encoding="utf-8")
    found = []
    for place, row in enumerate(json.loads(text)):
        sides = (row["better"], row["worse"]) if place % 2 == 0 else (row["worse"], row["better"])
        found.append(Pair(f"probe-{place}", [Message(role="user", content=row["question"])], *sides, "left", "right"))
    return found


def _key(flow: str, version: str, name: str) -> str:
    return f"judging/{flow}/{version}/{name}"
