"""Proxy fine-tunes with the real training loop, alone and under Ray Tune with ASHA."""

import os

import pytest

from flywheel.config import ProxyConfig, TrainingConfig
from flywheel.lake.store import ObjectStore
from flywheel.records import Example, Message
from flywheel.telemetry import Silent, apply_environment
from flywheel.testing import make_tiny_model
from flywheel.training.examples import save_encoded
from flywheel.training.export import count_parameters
from flywheel.training.finetune import encode_for
from flywheel.training.result import Job
from flywheel.workflow.sweeps.proxies import Arena, contest, proxy_training
from flywheel.workflow.sweeps.records import Records

pytestmark = [pytest.mark.ray, pytest.mark.slow]
COLOURS = {"sky": "blue", "grass": "green", "snow": "white", "coal": "black"}
OTHER = dict(zip(COLOURS, [*list(COLOURS.values())[1:], "blue"], strict=True))
CONFIG = ProxyConfig(finalists=3, steps=32, first_rung=8, reduction=2, num_cpus=0.5)
TRAINING = TrainingConfig(num_workers=2, micro_batch_size=4, learning_rate=5e-3, max_length=96)


def examples(numbers, colours=COLOURS) -> list[Example]:
    return [
        Example(example_id=f"{n}-{thing}-{colour}", flow="toy", target=colour, inference_ids=[f"{n}"], subject="s",
                origin="correction", messages=[Message(role="user", content=f"{n}: colour of {thing}?")])
        for n in numbers
        for thing, colour in colours.items()
    ]  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    apply_environment()
    texts = [f"{row.messages[0].content} {row.target}" for row in examples(range(40))]
    return make_tiny_model(tmp_path_factory.mktemp("base"), texts=texts, hidden=64)


def arena(base, folder, config=CONFIG) -> Arena:
    records = Records(ObjectStore(str(folder / "lake")), "toy", "sweep-1/proxies-1")
    return Arena(base, TRAINING, config, examples(range(50, 60)), records, folder / "work", 3)


def test_a_proxy_that_was_stopped_goes_on_bit_for_bit(base, tmp_path):
    from flywheel.training.proxy import Proxy

    config = proxy_training(TRAINING, CONFIG)
    encoded, _, pad = encode_for(config, base, examples(range(20)))
    asked, _, _ = encode_for(config, base, examples(range(50, 60)))
    job = Job(config=config, base=base, folder=tmp_path / "job", seed=3, pad_id=pad, parameters=count_parameters(base))
    save_encoded(encoded, job.data)

    whole = Proxy(job, steps=12)
    before = whole.fit(asked)
    state = whole.advance(12)
    after = whole.fit(asked)
    assert state.step == len(state.losses) == 12
    assert after.loss < 0.7 * before.loss
    assert after.exact >= before.exact

    half = Proxy(job, steps=12)
    assert not half.restore(tmp_path / "state")
    half.advance(5)
    half.fit(asked)  # measuring changes nothing
    half.save(tmp_path / "state")
    rest = Proxy(job, steps=12)
    assert rest.restore(tmp_path / "state")
    assert rest.advance(12) == state
    assert rest.fit(asked) == after


def test_asha_stops_the_noisy_and_a_rerun_repeats_no_rung(base, tmp_path):
    os.environ["RAY_AUTH_MODE"] = "disabled"
    import ray

    filters = {
        "clean": examples(range(20)),
        "noisy": [*examples(range(10)), *examples(range(10), OTHER)],
        "wrong": examples(range(20), OTHER),
    }
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100_000_000)
    try:
        where = arena(base, tmp_path)
        found = contest(where, filters, Silent())
        assert found.winner == "clean"
        by_name = {one.version: one for one in found.contestants}
        assert [rung.step for rung in by_name["clean"].rungs] == [8, 16, 32]
        assert not by_name["wrong"].finished
        assert found.tokens < found.tokens_of_all
        assert not where.work.exists()

        store = where.records.store
        store.delete([where.records.key("proxy-clean-ended"), where.records.key("proxy-clean-rung-2")])
        kept = by_name["clean"].rungs[1]
        again = contest(where, filters, Silent())  # its checkpoint is gone: it trains again, to the same numbers
        assert again.winner == "clean"
        assert again.contestants[0].rungs[1] == kept
        assert again.contestants[0].rungs[2].loss == by_name["clean"].rungs[2].loss
        assert again.contestants[1:] == found.contestants[1:]
    finally:
        ray.shutdown()
