"""Train a ranker from ranked lists and put it in the shadow, or (--promote) judge the one there and let it serve.

ray job submit --working-dir . -- python jobs/ranker.py --config configs/local/flywheel.yaml --set home=$PWD/.flywheel
"""

import json
from argparse import ArgumentParser
from pathlib import Path

parser = ArgumentParser(description=__doc__)
parser.add_argument("--config", type=Path, required=True)
parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
parser.add_argument("--promote", action="store_true", help="instead of training")

if __name__ == "__main__":
    options = parser.parse_args()
    import _source  # noqa: F401

    from flywheel.workflow.rankers import learn, promote
    from flywheel.workflow.turns.job import errors_in_a_sentence, job_config

    with errors_in_a_sentence():
        config = job_config(options)
        done = promote.promote(config, actor="job").model_dump(mode="json") if options.promote else None
        print(json.dumps(done or learn.summary(learn.train(config, actor="job"))))
