"""A sweep's outcome for people: what it changes, what that is worth, and how it reaches the next turn. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def sweep_lines(result: Mapping[str, Any]) -> list[str]:
    """Lines from what ``run_sweep`` gives."""
    lines = [f"the sweep of {result['period']} was finished before"] if result["repeated"] else []
    lines.append(
        f"{result['proposals']} proposals on {result['labels']} labels ({result['turn']}): value "
        f"{result['start_value']:.3f} -> {result['value']:.3f}"
    )
    lines.append(
        f"right kept {result['start_right_kept']}/{result['start_kept']} -> {result['right_kept']}/{result['kept']}; "
        f"of all rows kept {result['start_volume']:.1%} -> {result['volume']:.1%}"
    )
    lines += _proxies(result)
    lines += [f"  {key}: {before} -> {after}" for key, (before, after) in result["changes"].items()]
    if not result["changes"]:
        lines.append("  no change: no proposal is better than the filter as it is")
    lines.append(f"{result['out']} (plot: {result['picture']})")
    lines.append(f"Review it: flywheel filters diff {result['out']}; use it: flywheel filters adopt {result['out']}")
    return lines


def _proxies(result: Mapping[str, Any]) -> list[str]:
    if result.get("no_proxies"):
        return [f"no proxy fine-tunes: {result['no_proxies']}"]
    found = result.get("proxies")
    if not found:
        return []
    lines = [
        f"{len(found['contestants'])} proxy fine-tunes, {found['tokens']:,} of {found['tokens_of_all']:,} tokens "
        f"({found['tokens'] / max(1, found['tokens_of_all']):.0%}):"
    ]
    for one in found["contestants"]:
        last = one["rungs"][-1]
        mark = "winner" if one["version"] == found["winner"] else "" if one["finished"] else "stopped"
        lines.append(
            f"  {one['version']}: {one['examples']} examples, step {last['step']}, loss {last['loss']:.4f}, "
            f"exact {last['exact']:.1%}  {mark}".rstrip()
        )
    return lines
