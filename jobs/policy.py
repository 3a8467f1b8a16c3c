"""What would another policy have earned on logged traffic? JSON on standard output; exit code 3: it cannot be told.

ray job submit --working-dir . -- python jobs/policy.py --config CONFIG.yaml configs/local/policy.yaml --ask days=7
"""

import sys
from argparse import ArgumentParser
from pathlib import Path

parser = ArgumentParser(description=__doc__)
parser.add_argument("question", type=Path)
parser.add_argument("--config", type=Path, required=True)
parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
parser.add_argument("--ask", action="append", default=[], metavar="KEY=VALUE", help="a key of the question")

if __name__ == "__main__":
    options = parser.parse_args()
    import _source  # noqa: F401

    from flywheel.config import PolicyQuestion, load, parse_overrides
    from flywheel.lake.tables import open_lake
    from flywheel.workflow.offpolicy.report import evaluate_policy
    from flywheel.workflow.turns.job import errors_in_a_sentence, job_config

    with errors_in_a_sentence():
        config = job_config(options)
        question = load(PolicyQuestion, options.question, parse_overrides(options.ask))
        report = evaluate_policy(open_lake(config), config, question)
    print(report.model_dump_json())
    sys.exit(3 if report.refused else 0)
