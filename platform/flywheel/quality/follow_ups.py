"""What a person wrote next: a question that is asked again was not answered. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from itertools import pairwise

from flywheel.records import Inference


def next_messages(inferences: Sequence[Inference], consented: Collection[str]) -> dict[str, str]:
    """Inference id -> the last user message of the request that followed it.

    The follow-up is the earliest request that names it as its parent, else the next one of the same person in the
    session. Both must be consented: the text of one is used to judge the other.
    """
    rows = sorted((row for row in inferences if row.inference_id in consented), key=lambda row: row.inference_id)
    rows.sort(key=lambda row: row.ts)
    found: dict[str, str] = {}
    owner = {row.inference_id: row.subject for row in rows}
    for row in rows:
        said = _last_said(row)
        if row.parent_id is not None and said is not None and owner.get(row.parent_id) == row.subject:
            found.setdefault(row.parent_id, said)
    sessions: dict[tuple[str, str], list[Inference]] = defaultdict(list)
    for row in rows:
        if row.session_id is not None:
            sessions[row.session_id, row.subject].append(row)
    for session in sessions.values():
        for before, after in pairwise(session):
            # A request that continues another one is no follow-up of its neighbour in time.
            said = _last_said(after) if after.parent_id in {None, before.inference_id} else None
            if said is not None:
                found.setdefault(before.inference_id, said)
    return found


def _last_said(row: Inference) -> str | None:
    said = [message.content for message in row.messages if message.role == "user" and message.content.strip()]
    return said[-1] if said else None
