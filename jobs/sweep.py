"""Search the filter thresholds on the `tune` labels; the winner is a file for `flywheel filters diff` and `adopt`.

ray job submit --working-dir . -- python jobs/sweep.py --config configs/local/flywheel.yaml --out filter.yaml
"""

import json
from argparse import ArgumentParser
from pathlib import Path

parser = ArgumentParser(description=__doc__)
parser.add_argument("--config", type=Path, required=True)
parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
parser.add_argument("--out", type=Path, default=Path("filter.yaml"))

if __name__ == "__main__":
    options = parser.parse_args()
    import _source  # noqa: F401

    from flywheel.config import FlywheelConfig, load, parse_overrides
    from flywheel.workflow.turns.turn import run_sweep

    config = load(FlywheelConfig, options.config, parse_overrides(options.set))
    print(json.dumps(run_sweep(config, out=options.out), default=str))
