"""Bring logs into the lake; the same file twice changes nothing.

ray job submit --working-dir . -- python jobs/import_logs.py --config CONFIG.yaml s3://bucket/logs/
"""

from argparse import ArgumentParser
from pathlib import Path

parser = ArgumentParser(description=__doc__)
parser.add_argument("--config", type=Path, required=True)
parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
for name in ("source", "--format", "--flow", "--user", "--user-field", "--consent"):
    parser.add_argument(name, default="auto" if name == "--format" else None)

if __name__ == "__main__":
    options = parser.parse_args()
    import _source  # noqa: F401

    from flywheel.capture.importer import import_interactions
    from flywheel.capture.readers import Reading, read_purposes
    from flywheel.lake import keys, tables
    from flywheel.workflow.turns.job import errors_in_a_sentence, job_config

    with errors_in_a_sentence():
        config = job_config(options)
        how = Reading(options.format, options.flow, options.user, options.user_field, read_purposes(options.consent))
        lake, keyring = tables.open_lake(config), keys.Keyring(config.home_path())
        report = import_interactions(lake, config, keyring, options.source, reading=how)
    print(report.model_dump_json())
    raise SystemExit(int(report.all_bad))
