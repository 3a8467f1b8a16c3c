"""What a turn makes of its filter before and while it curates."""

import pytest

from flywheel.config import FilterConfig
from flywheel.errors import ConfigError
from flywheel.lake.keys import Keyring
from flywheel.lake.manifests import Manifest, write_manifest
from flywheel.workflow.turns import learn
from flywheel.workflow.turns.context import Context
from flywheel.workflow.turns.steps import TurnHandle
from flywheel.workflow.turns.turn import run_turn


def test_a_misspelt_signal_ends_a_turn_before_it_begins(flow):
    world = flow(**{"quality.filter.rules": [{"signal": "agrement", "at_least": 0.5, "reason": "few"}]})
    world.live()
    world.answers(1)
    with pytest.raises(ConfigError, match="did you mean 'agreement'"):
        run_turn(world.config)
    assert not world.lake.store.list("turns/")


def test_older_is_what_the_model_learnt_from_and_not_what_a_rejected_candidate_saw(flow):
    world = flow()

    def manifest(kind, name, parents=(), **data):
        write_manifest(world.lake, Manifest(
            kind=kind, id=name, flow="triage", parents=list(parents), code_version="c", config_hash="h", seed=0,
            data=data,
        ))  # fmt: skip

    manifest("dataset", "d1", rows=[["ex-1", ["a"], "mac"]])
    manifest("dataset", "d2", rows=[["ex-2", ["b"], "mac"]])
    manifest("dataset", "d3", rows=[["ex-3", ["c"], "mac"]])
    manifest("model", "v1")
    manifest("model", "v2", ["dataset/d1", "model/v1"])
    manifest("model", "rejected", ["dataset/d2", "model/v2"])
    manifest("model", "v3", ["dataset/d3", "model/v2"])
    home = world.config.home_path()
    context = Context(
        world.lake, world.config, Keyring(home), TurnHandle(world.lake.store, "triage", "turn-0001"), home
    )
    done = {"snapshot": {"base": "v3"}}
    assert learn.learnt_rows(context, done, FilterConfig(older_per_new=0.5)) == {"a", "c"}
    assert learn.learnt_rows(context, done, FilterConfig()) == set()
