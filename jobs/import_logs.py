"""Bring logs into the lake; the same file twice changes nothing.

ray job submit --working-dir . -- python jobs/import_logs.py --config configs/local/flywheel.yaml s3://bucket/logs/
"""

from argparse import ArgumentParser
from pathlib import Path

parser = ArgumentParser(description=__doc__)
parser.add_argument("source")
parser.add_argument("--config", type=Path, required=True)
parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
for name in ("format", "flow", "user", "user-field", "consent"):
    parser.add_argument(f"--{name}", default="auto" if name == "format" else None)

if __name__ == "__main__":
    import _source  # noqa: F401

    options = parser.parse_args()
    from flywheel.capture.importer import import_interactions
    from flywheel.capture.readers import Reading, read_purposes
    from flywheel.config import FlywheelConfig, load, parse_overrides
    from flywheel.lake import keys, tables

    config = load(FlywheelConfig, options.config, parse_overrides(options.set))
    how = Reading(options.format, options.flow, options.user, options.user_field, read_purposes(options.consent))
    lake, keyring = tables.open_lake(config), keys.Keyring(config.home_path())
    report = import_interactions(lake, config, keyring, options.source, reading=how)
    print(report.model_dump_json())
    raise SystemExit(int(report.all_bad))
