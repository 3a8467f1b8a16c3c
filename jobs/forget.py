"""Remove a person from every store, for good. Asks nothing; --dry-run only counts.

ray job submit --working-dir . -- python jobs/forget.py --config CONFIG.yaml --user ada
Ray remembers a job's command line for as long as the cluster lives; `flywheel forget` leaves no such trace.
"""

from argparse import ArgumentParser
from pathlib import Path

parser = ArgumentParser(description=__doc__)
parser.add_argument("--config", type=Path, required=True)
parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
parser.add_argument("--user", required=True)
parser.add_argument("--dry-run", action="store_true")

if __name__ == "__main__":
    options = parser.parse_args()
    import _source  # noqa: F401

    from flywheel.workflow.erasure import erase
    from flywheel.workflow.turns.job import errors_in_a_sentence, job_config

    act = erase.look if options.dry_run else erase.forget
    with errors_in_a_sentence():
        print(act(job_config(options), options.user).model_dump_json())
