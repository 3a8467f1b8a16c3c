"""One whole turn as a Ray job; resumes where a killed one was.

ray job submit -- python jobs/turn.py --config configs/local/flywheel.yaml
"""

import json
from argparse import ArgumentParser
from pathlib import Path

parser = ArgumentParser(description=__doc__)
parser.add_argument("--config", type=Path, required=True)
parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")

if __name__ == "__main__":
    options = parser.parse_args()
    from flywheel.config import FlywheelConfig, load
    from flywheel.config.loader import parse_overrides
    from flywheel.workflow.turn import run_turn

    config = load(FlywheelConfig, options.config, parse_overrides(options.set))
    print(json.dumps(run_turn(config), default=str))
