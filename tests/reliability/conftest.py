"""Long runs (``make reliability``) leave a result beside those of the benchmarks, one file a module."""

import os
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
import results_file

_rows: dict[str, list[dict[str, Any]]] = defaultdict(list)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.when == "call" and os.environ.get("FLYWHEEL_LONG"):
        name = item.path.stem.removeprefix("test_").replace("_", "-")
        seen = {"test": item.name, "outcome": report.outcome, "seconds": round(report.duration, 1)}
        _rows[name].append({**seen, **dict(report.user_properties)})
    return report


def pytest_sessionfinish() -> None:
    for name, rows in _rows.items():
        failed = [row["test"] for row in rows if row["outcome"] == "failed"]
        target = {
            "name": "failed tests",
            "target": 0,
            "measured": len(failed),
            "met": not failed,
            "why_not": f"failed: {', '.join(failed)}" if failed else None,
        }
        results_file.write(f"reliability-{name}", 0, rows, [target])
