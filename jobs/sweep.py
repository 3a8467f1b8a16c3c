"""Search the filter on the `tune` labels; the winner is a file to review. Submitted again, it goes on where it was.

ray job submit --working-dir . -- python jobs/sweep.py --config CONFIG.yaml --out /shared/filter.yaml --period week
"""

import json
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

    from flywheel.workflow.turns.alone import run_sweep
    from flywheel.workflow.turns.job import errors_in_a_sentence, job_config

    with errors_in_a_sentence():
        config = job_config(options)
        found = run_sweep(config, out=options.out, period=options.period, restart=options.restart)
        print(json.dumps(found, default=str))
