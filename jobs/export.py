"""Write a table or a dataset to a file that the job's node keeps, without rows that lack consent.

ray job submit --working-dir . -- python jobs/export.py --config CONFIG.yaml examples --out /shared/examples.parquet
"""

from argparse import ArgumentParser
from pathlib import Path

parser = ArgumentParser(description=__doc__)
parser.add_argument("--config", type=Path, required=True)
parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
parser.add_argument("name")
parser.add_argument("--out", type=Path, required=True)
parser.add_argument("--format")
parser.add_argument("--purpose")
parser.add_argument("--force", action="store_true")

if __name__ == "__main__":
    options = parser.parse_args()
    import _source  # noqa: F401

    from flywheel.lake.tables import open_lake
    from flywheel.workflow.exchange.export import export
    from flywheel.workflow.turns.job import errors_in_a_sentence, job_config

    how = {"out": options.out, "format_": options.format, "purpose": options.purpose, "force": options.force}
    with errors_in_a_sentence():
        config = job_config(options)
        print(export(open_lake(config), config, options.name, **how).model_dump_json())
