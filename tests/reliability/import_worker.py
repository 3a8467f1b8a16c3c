"""A process that imports a folder in small chunks and prints a line when it is done."""

import sys
from pathlib import Path

from flywheel.capture import import_run
from flywheel.capture.importer import import_interactions
from flywheel.config import FlywheelConfig
from flywheel.lake.keys import Keyring
from flywheel.lake.tables import open_lake


class Told:
    """Says that the import has begun to store, so that it can be killed in the middle."""

    def start(self, name: str, text: str = "") -> None:
        sys.stdout.write("started\n")
        sys.stdout.flush()

    def update(self, done: float, total: float | None = None, text: str = "") -> None:
        """Nothing."""

    def finish(self, text: str = "") -> None:
        """Nothing."""


if __name__ == "__main__":
    home, source = map(Path, sys.argv[1:])
    import_run.CHUNK = 25
    config = FlywheelConfig(home=home)
    report = import_interactions(open_lake(config), config, Keyring(home), source, progress=Told())
    sys.stdout.write(f"done {report.inferences} {report.feedback}\n")
