"""Bring logs into the lake; the same file twice changes nothing.

ray job submit --working-dir . -- python jobs/import_logs.py --config configs/local/flywheel.yaml FILE.jsonl
"""

from argparse import ArgumentParser
from pathlib import Path

parser = ArgumentParser(description=__doc__)
parser.add_argument("--config", type=Path, required=True)
parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
parser.add_argument("file", type=Path)

if __name__ == "__main__":
    options = parser.parse_args()
    import _source  # noqa: F401

    from flywheel.capture.importer import import_interactions
    from flywheel.config import FlywheelConfig, load
    from flywheel.config.loader import parse_overrides
    from flywheel.lake.keys import Keyring
    from flywheel.lake.tables import open_lake

    config = load(FlywheelConfig, options.config, parse_overrides(options.set))
    report = import_interactions(open_lake(config), config, Keyring(config.home_path()), options.file)
    print(report.model_dump_json())
