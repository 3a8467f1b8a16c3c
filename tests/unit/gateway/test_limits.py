import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.gateway.keys import ApiKey, digest, new_id
from flywheel.gateway.limits import Bucket, Meter, Meters, tokens_of
from flywheel.gateway.problems import ApiProblem


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def key(**limits):
    return ApiKey(id=new_id(), name="k", sha256=digest("s"), roles=["product"], flows=["*"], **limits)


def refused(meter, *, generates=True):
    with pytest.raises(ApiProblem) as problem:
        meter.admit(generates=generates)
    error = problem.value
    assert error.status == 429
    assert error.code == "rate_limit_exceeded"
    assert int(error.headers["retry-after"]) >= 1
    return error.kind, int(error.headers["retry-after"])


def test_a_burst_then_the_rate():
    clock = Clock()
    meter = Meter(key(requests_per_minute=60, burst=3), clock=clock)
    for _ in range(3):
        meter.admit(generates=False)
    assert refused(meter) == ("requests", 1)
    clock.now = 0.5
    assert refused(meter) == ("requests", 1)
    clock.now = 1.0
    meter.admit(generates=False)
    assert refused(meter) == ("requests", 1)


def test_whoever_waits_as_told_is_let_in():
    clock = Clock()
    meter = Meter(key(requests_per_minute=0.7, burst=1), clock=clock)
    meter.admit(generates=True)
    for _ in range(5):
        _, wait = refused(meter)
        clock.now += wait
        meter.admit(generates=True)


def test_tokens_are_owed_until_the_minutes_paid_them():
    clock = Clock()
    meter = Meter(key(tokens_per_minute=600), clock=clock)
    meter.admit(generates=True)
    meter.charge(900)  # 300 more than a minute's
    assert refused(meter) == ("tokens", 31)
    meter.admit(generates=False)  # a rating costs no tokens
    clock.now = 30.0
    assert refused(meter) == ("tokens", 1)
    clock.now = 30.2
    meter.admit(generates=True)


def test_a_refused_request_takes_nothing():
    clock = Clock()
    meter = Meter(key(requests_per_minute=60, burst=1, tokens_per_minute=60), clock=clock)
    meter.charge(61)
    refused(meter)
    meter.admit(generates=False)
    assert refused(meter, generates=False)[0] == "requests"


@pytest.mark.parametrize(("replicas", "at_once"), [(1, 12), (3, 4), (100, 1)])
def test_replicas_share_rate_and_burst(replicas, at_once):
    clock = Clock()
    meter = Meter(key(requests_per_minute=60, burst=12), replicas, clock)
    for _ in range(at_once):
        meter.admit(generates=True)
    assert refused(meter) == ("requests", replicas)


def test_reading_the_keys_again_forgives_nothing():
    meters = Meters(clock=Clock())
    one, other = key(requests_per_minute=6, burst=1), key(requests_per_minute=6, burst=1)
    meters.follow([one, other])
    meters.of(one.id).admit(generates=True)
    meters.of(other.id).admit(generates=True)
    meters.follow([one.model_copy(update={"name": "renamed"}), other.model_copy(update={"burst": 2})])
    refused(meters.of(one.id))
    meters.of(other.id).admit(generates=True)
    meters.follow([other])
    assert meters.of(one.id) is None


@given(
    st.floats(1, 6000),
    st.integers(1, 50),
    st.lists(st.tuples(st.floats(0, 5), st.integers(0, 20)), max_size=80),
)
def test_never_more_than_burst_plus_rate_times_time(rate, burst, steps):
    clock = Clock()
    bucket = Bucket(rate, burst, clock)
    admitted = 0
    for pause, wanted in steps:
        clock.now += pause
        for _ in range(wanted):
            if not bucket.wait_s(1):
                bucket.take(1)
                admitted += 1
        assert admitted <= burst + clock.now * rate / 60 + 1e-6


def test_what_the_engine_did_not_count_is_estimated():
    assert tokens_of(10, 5, asked_chars=999, answered_chars=999) == 15
    assert tokens_of(None, None, asked_chars=40, answered_chars=9) == 13
    assert tokens_of(None, None, asked_chars=0, answered_chars=0) == 1
