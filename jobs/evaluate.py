"""Models on evaluation suites under parameters; cells that are finished are not run again, however it was stopped.

ray job submit --working-dir . -- python jobs/evaluate.py --config CONFIG.yaml --model live --suite random
"""

from argparse import ArgumentParser
from pathlib import Path

parser = ArgumentParser(description=__doc__)
parser.add_argument("--config", type=Path, required=True)
parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
parser.add_argument("--grid", type=Path, help="models, suites and parameters as a file")
parser.add_argument("--model", action="append", help="in place of the file's; default: live")
parser.add_argument("--suite", action="append")
parser.add_argument("--param", action="append", metavar="temperature=0,0.7")
parser.add_argument("--endpoint", help="what answers for endpoint:NAME")
parser.add_argument("--out", type=Path, help="the table as .csv or .json")
parser.add_argument("--drift", action="store_true", help="only: is the live model worse on fresh labelled traffic?")

if __name__ == "__main__":
    import _source  # noqa: F401

    from flywheel.operate.evaluation_job import run

    run(parser.parse_args())
