"""A model on evaluation suites; cases it answered before are not answered again.

ray job submit --working-dir . -- python jobs/evaluate.py --config CONFIG.yaml --model live --suite random
"""

import json
from argparse import ArgumentParser
from pathlib import Path

parser = ArgumentParser(description=__doc__)
parser.add_argument("--config", type=Path, required=True)
parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
parser.add_argument("--model", default="live")
parser.add_argument("--suite", action="append", required=True)

if __name__ == "__main__":
    options = parser.parse_args()
    import _source  # noqa: F401

    from flywheel.config import FlywheelConfig, load, parse_overrides
    from flywheel.workflow.evaluate import evaluate_model

    config = load(FlywheelConfig, options.config, parse_overrides(options.set))
    print(json.dumps(evaluate_model(config, model=options.model, suites=options.suite), default=str))
