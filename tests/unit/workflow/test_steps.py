import pytest

from flywheel.config import FlywheelConfig, load
from flywheel.errors import UsageError
from flywheel.lake.store import ObjectStore
from flywheel.telemetry import Silent
from flywheel.workflow.turns.steps import Step, TurnHandle, open_turn, run_steps, turn_ids
from flywheel.workflow.turns.turn import step_key, work_folder


@pytest.fixture
def store(tmp_path):
    return ObjectStore(str(tmp_path / "lake"))


def config(tmp_path, **overrides):
    return load(FlywheelConfig, overrides={"home": str(tmp_path / "home"), **overrides})


def step(name, calls, result=None, dies=False):
    def run(done, _progress):
        calls.append(name)
        if dies:
            raise RuntimeError("killed")
        return {"saw": sorted(done), **(result or {})}

    return Step(name, run, lambda artifact: str(artifact["saw"]))


def test_a_finished_step_never_runs_again(store, tmp_path):
    turn = open_turn(store, config(tmp_path))
    calls = []
    with pytest.raises(RuntimeError):
        run_steps(turn, [step("a", calls), step("b", calls), step("c", calls, dies=True)], Silent())
    again = open_turn(store, config(tmp_path))
    assert again == turn
    done = run_steps(again, [step("a", calls), step("b", calls), step("c", calls)], Silent())
    assert calls == ["a", "b", "c", "c"]
    assert done["c"]["saw"] == ["a", "b"]


def test_a_turn_goes_on_when_only_ports_or_its_schedule_changed(store, tmp_path):
    turn = open_turn(store, config(tmp_path))
    assert open_turn(store, config(tmp_path, **{"gateway.port": 8001, "cadence.every": "daily"})) == turn
    with pytest.raises(UsageError, match="another configuration"):
        open_turn(store, config(tmp_path, **{"training.epochs": 9}))


def test_stop_ends_the_turn_and_is_kept(store, tmp_path):
    turn = open_turn(store, config(tmp_path))
    calls = []
    for _ in range(2):
        done = run_steps(turn, [step("a", calls, {"stop": "too little"}), step("b", calls)], Silent())
        assert set(done) == {"a"}
    assert calls == ["a"]


def test_wait_is_not_kept_so_the_next_run_takes_it_up(store, tmp_path):
    turn = open_turn(store, config(tmp_path))
    calls = []
    run_steps(turn, [step("a", calls, {"wait": "more traffic"}), step("b", calls)], Silent())
    done = run_steps(turn, [step("a", calls), step("b", calls)], Silent())
    assert calls == ["a", "a", "b"]
    assert set(done) == {"a", "b"}


def test_of_two_writers_of_an_artifact_the_first_counts_for_both(store):
    turn = TurnHandle(store, "triage", "turn-0001")
    assert turn.write("01-a", {"value": 1}) == {"value": 1}
    assert turn.write("01-a", {"value": 2}) == {"value": 1}


def test_an_unfinished_turn_refuses_another_configuration_until_abandoned(store, tmp_path):
    first = open_turn(store, config(tmp_path))
    other = config(tmp_path, **{"training.epochs": 9})
    with pytest.raises(UsageError, match="--new"):
        open_turn(store, other)
    second = open_turn(store, other, new=True)
    assert turn_ids(store, "triage") == [first.turn_id, second.turn_id] == ["turn-0001", "turn-0002"]
    assert (first.read("finished")["reasons"], first.read("finished")["abandoned"]) == (["abandoned"], True)


def test_a_finished_turn_is_followed_by_a_new_one(store, tmp_path):
    first = open_turn(store, config(tmp_path))
    first.write("finished", {"decision": "reject", "reasons": []})
    assert open_turn(store, config(tmp_path)).turn_id == "turn-0002"


def test_new_abandons_an_unfinished_turn_of_the_same_configuration_too(store, tmp_path):
    first = open_turn(store, config(tmp_path))
    assert open_turn(store, config(tmp_path), new=True).turn_id == "turn-0002"
    assert first.read("finished")["abandoned"]


def test_a_turn_whose_files_are_in_another_home_is_not_resumed_without_them(store, tmp_path):
    here, elsewhere = config(tmp_path), load(FlywheelConfig, overrides={"home": str(tmp_path / "elsewhere")})
    turn = open_turn(store, here)
    folder = work_folder(here, turn)
    assert work_folder(elsewhere, turn).is_dir()  # nothing is there yet that it could miss
    turn.write(step_key("candidates"), {"candidates": 1})
    assert work_folder(here, turn) == folder
    with pytest.raises(UsageError, match=rf"turn-0001 was begun in .*:{here.home_path()}, which holds its files"):
        work_folder(load(FlywheelConfig, overrides={"home": str(tmp_path / "third")}), turn)
