"""Near-duplicates of a turn's candidates, by way of the persistent index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from flywheel.config import FilterConfig, FlywheelConfig
from flywheel.index.near import Counts, Groups, NearDuplicateIndex
from flywheel.lake.tables import Lake
from flywheel.quality.rows import Candidate, prompt_text


def known_groups(
    lake: Lake, config: FlywheelConfig, filter_config: FilterConfig, rows: Sequence[Candidate]
) -> Groups | None:
    """Groups of all rows that may be trained on, whatever the filter says of them; None: the index is switched off.

    The index then holds exactly these rows: who withdrew consent or is held out by now is no longer in it.
    """
    if not config.quality.dedup.index or not filter_config.enabled:
        return None
    index = NearDuplicateIndex(
        lake.store, config.flow, filter_config.near_duplicate_jaccard, bucket=config.quality.dedup.bucket
    )
    return index.update({row.inference_id: prompt_text(row.messages) for row in rows if row.held_out is None})


def report(groups: Groups | None) -> dict[str, object] | None:
    """What the dataset's manifest says about it."""
    return None if groups is None else asdict(groups.counts)


def notice(counts: Counts | None) -> str:
    """What a person should know, or nothing."""
    if counts is None:
        return ""
    said = [f"near-duplicate index built anew because {name} is damaged" for name in counts.rebuilt]
    if counts.hot.buckets:
        said.append(f"{counts.hot.texts:,} prompts in {counts.hot.buckets:,} hot buckets compared in part")
    return "".join(f"; {one}" for one in said)
