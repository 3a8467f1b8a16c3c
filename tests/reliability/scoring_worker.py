"""A process that scores a small flow's candidates on a cluster, and says when the scoring begins."""

import sys
from pathlib import Path

from flywheel.config import FlywheelConfig, load
from flywheel.lake.tables import open_lake
from flywheel.quality.build import build
from flywheel.quality.reward import train_reward
from flywheel.quality.rows import Exclusions
from flywheel.quality.score import score
from flywheel.workflow.cluster import connected


def main(folder: Path, base: Path) -> None:
    config = load(FlywheelConfig, folder / "flow.yaml")
    lake = open_lake(config)
    with connected(config):
        built = build(
            lake, config, snapshot={table: lake.version(table) for table in ("inferences", "feedback", "consents")},
            consented=lambda rows, _: {row.inference_id for row in rows if "training" in row.consent},
            heard=lambda rows, *_: rows,
            excluded=Exclusions(), work=folder / "candidates",
        )  # fmt: skip
        models = train_reward(lake, config, built, base=base, code_version="test")
        (folder / "begun").touch()
        scored = score(lake, config, built, models)
    (folder / "scored.json").write_text(scored.model_dump_json())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
