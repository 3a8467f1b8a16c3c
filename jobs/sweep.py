"""Search the filter on the `tune` labels; the winner is a file for `flywheel filters diff`, its Pareto plot beside it.

ray job submit --working-dir . -- python jobs/sweep.py --config CONFIG.yaml --out /shared/filter.yaml --period week
Killed and submitted again, it goes on behind the trials that were finished. With --period, one sweep each day, week
or month: submitted again, it prints the finished one.
"""

import json
import sys
from argparse import ArgumentParser
from pathlib import Path

parser = ArgumentParser(description=__doc__)
parser.add_argument("--config", type=Path, required=True)
parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
parser.add_argument("--out", type=Path, default=Path("filter.yaml"))
parser.add_argument("--period", choices=["day", "week", "month"])
parser.add_argument("--restart", action="store_true", help="run finished trials again")

if __name__ == "__main__":
    options = parser.parse_args()
    import _source  # noqa: F401

    from flywheel.config import FlywheelConfig, load, parse_overrides
    from flywheel.errors import FlywheelError
    from flywheel.workflow.turns.alone import run_sweep

    try:
        config = load(FlywheelConfig, options.config, parse_overrides(options.set))
        result = run_sweep(config, out=options.out, period=options.period, restart=options.restart)
        print(json.dumps(result, default=str))
    except FlywheelError as error:
        sys.exit(f"error: {error}")
