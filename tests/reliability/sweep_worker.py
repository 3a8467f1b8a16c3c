"""A process that sweeps, notes every batch that begins, and makes each take long enough to be killed in."""

import os
import sys
import time
from pathlib import Path

import small_sweep

from flywheel.telemetry import apply_environment
from flywheel.workflow.sweeps import trials
from flywheel.workflow.sweeps.sweep import sweep


def main(home: Path, log: Path, seconds: float) -> None:
    apply_environment()
    real = trials.study

    def noted(*arguments, **named):
        with log.open("a") as file:
            file.write(f"{named['seed']}\n")
        time.sleep(seconds)
        return real(*arguments, **named)

    trials.study = noted
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100_000_000)
    lake, config, built, scored, labels = small_sweep.world(home)
    sweep(lake, config, built, scored, labels, out=home / "filter.yaml")


if __name__ == "__main__":
    os.environ["RAY_AUTH_MODE"] = "disabled"
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
