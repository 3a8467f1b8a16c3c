"""Operational guards: what takes a canary back, how soon, and what does not."""

import numpy as np
import pytest

from flywheel.config import OperationalGuards
from flywheel.rollout.machine.compare import CanaryGuards, Slowness, WatchGuards
from flywheel.rollout.machine.onset import ArmOnset, RateOnset
from flywheel.rollout.machine.tally import BUCKETS, CONTENT, Tally, bucket_of, edge_ms

POLICY = OperationalGuards()


def tally(n, *, error=0, empty=0, ms=100.0, slow=0, slow_ms=1_000.0, **found):
    times = [0] * BUCKETS
    times[bucket_of(ms)] += n - error - slow
    times[bucket_of(slow_ms)] += slow
    kinds = dict.fromkeys(CONTENT, 0) | found
    return Tally(requests=n, error=error, empty=empty, checked=n - error, found=kinds, times=times)


def run(guards, seconds, *, rate=5.0, share=0.25, canary=0.0, live=0.0, seed=0, start=0, **kind):
    """Seconds of traffic with Poisson numbers; returns the second of the first breach."""
    rng = np.random.default_rng(seed)
    name = kind.get("kind", "error")
    for second in range(start, start + seconds):
        n, m = int(rng.poisson(rate * share)), int(rng.poisson(rate * (1 - share)))
        guards.add(
            tally(n, **{name: int(rng.binomial(n, canary))}), tally(m, **{name: int(rng.binomial(m, live))}), second
        )
        if any(reason.passed is False for reason in guards.reasons()):
            return second - start
    return None


@pytest.mark.parametrize("kind", ["error", "empty", "slow", "refusal", "personal", "obedience"])
@pytest.mark.parametrize("share", [0.05, 0.25, 0.5])
def test_a_canary_that_fails_always_is_found_within_seconds(kind, share):
    guards = CanaryGuards(POLICY)
    assert run(guards, 300, rate=20, share=share, kind=kind) is None
    found = run(guards, 60, rate=20, share=share, canary=1.0, kind=kind, start=300)
    assert found is not None
    assert found <= 20
    [reason] = [one for one in guards.reasons() if one.passed is False]
    assert reason.name == kind


def test_a_day_without_failures_is_no_credit():
    guards = CanaryGuards(POLICY)
    for second in range(0, 86_400, 30):
        guards.add(tally(150, error=1), tally(450, error=3), second)
    assert run(guards, 60, rate=20, canary=0.5, start=86_400) <= 30


@pytest.mark.parametrize("rate", [0.02, 0.3, 1.0])
def test_an_outage_of_everything_takes_nobody_back(rate):
    for seed in range(6):
        guards = CanaryGuards(POLICY)
        run(guards, 60, rate=20, seed=seed)
        assert run(guards, 120, rate=20, canary=rate, live=rate, seed=seed + 100, start=60) is None


def test_a_few_failures_take_nobody_back():
    guards = CanaryGuards(POLICY)
    guards.add(tally(5, error=2), tally(15), 0)
    guards.add(tally(5), tally(15), 1)
    assert all(reason.passed is not False for reason in guards.reasons())


def test_a_rise_that_is_tolerated_is_no_breach_however_sure():
    guards = CanaryGuards(OperationalGuards(max_error_increase=0.05))
    assert run(guards, 3_000, rate=200, canary=0.03, live=0.01) is None
    [error] = [reason for reason in guards.reasons() if reason.name == "error"]
    assert guards._onset["error"].log_evidence > 20
    assert error.passed is True


def test_one_user_with_most_of_the_traffic_is_no_failure():
    """Shares are those of the requests as they were, not those that were asked for."""
    guards = CanaryGuards(POLICY)
    rng = np.random.default_rng(3)
    for second in range(600):
        n, m = int(rng.poisson(8)), int(rng.poisson(2))
        guards.add(tally(n, error=int(rng.binomial(n, 0.2))), tally(m, error=int(rng.binomial(m, 0.2))), second)
        assert all(reason.passed is not False for reason in guards.reasons())


def test_false_alarms_stay_below_alpha():
    """Errors of 5 % on both arms, looked at after every batch: at alpha 0.05 of 100 canaries hardly 5 may fall."""
    rng, fallen = np.random.default_rng(7), 0
    for _ in range(100):
        onset = ArmOnset()
        for _ in range(200):
            n, m = 3, 9
            onset.batch((n, int(rng.binomial(n, 0.05))), (m, int(rng.binomial(m, 0.05))))
            if onset.log_evidence >= np.log(20):
                fallen += 1
                break
    assert fallen <= 5
    rising = RateOnset(0.05)
    for _ in range(30):
        rising.batch(10, int(rng.binomial(10, 0.2)))
    assert rising.log_evidence > np.log(1_000)


def test_evidence_has_mean_one_at_most_when_arms_fail_alike():
    """Every way in which 4 failures can fall on a batch of 3 and 9, by its hypergeometric chance."""
    from scipy import stats

    means = 0.0
    for hits in range(4):
        onset = ArmOnset()
        onset.batch((3, hits), (9, 4 - hits))
        weight = np.log(2.1097 * 2) + 2 * np.log(np.log(2))
        means += stats.hypergeom.pmf(hits, 12, 3, 4) * np.exp(onset.log_evidence + weight)
    assert means <= 1.0


def test_without_enough_requests_a_guard_says_that():
    guards = CanaryGuards(POLICY)
    assert {reason.passed for reason in guards.reasons()} == {None}
    guards.add(tally(29), tally(200), 0)
    assert {reason.passed for reason in guards.reasons()} == {None}
    guards.add(tally(40), tally(200), 1)
    assert {reason.passed for reason in guards.reasons()} == {True}


def test_only_what_is_asked_for_is_guarded():
    guards = CanaryGuards(OperationalGuards(max_personal_increase=None, max_slow_increase=None))
    assert {reason.name for reason in guards.reasons()} == {"error", "empty", "refusal", "obedience"}


def test_slow_is_beyond_what_the_live_model_did_before():
    slow = Slowness(2.0)
    assert slow.split(tally(10), tally(60, slow=3)) is None
    (n, hits), (m, live) = slow.split(tally(10, ms=150), tally(10, slow=1))
    assert (n, hits, m, live) == (10, 0, 10, 1)
    (_, hits), _ = slow.split(tally(10, ms=400), tally(10))
    assert hits == 10
    assert 200 <= slow.limit_ms <= 400


def test_a_promoted_model_is_held_against_the_one_before():
    before = tally(2_000, error=20, slow=100, refusal=100)
    guards = WatchGuards(POLICY, before)
    for second in range(600):
        guards.add(tally(10, error=second % 10 == 0, slow=second % 3 == 0, refusal=second % 2), second)
    assert {reason.passed for reason in guards.reasons()} == {True}
    for second in range(600, 620):
        guards.add(tally(10, error=5), second)
    assert [reason.name for reason in guards.reasons() if reason.passed is False] == ["error"]


def test_without_anything_known_of_before_a_watch_says_so_and_takes_nobody_back():
    guards = WatchGuards(POLICY, Tally())
    guards.add(tally(100, error=90), 1)
    assert {reason.passed for reason in guards.reasons()} == {None}


def test_tallies_travel_and_add_up():
    one, two = tally(10, error=1, refusal=2), tally(5, empty=1)
    total = Tally.read(one.told())
    total.add(two)
    assert total.since(one) == two
    assert total.since(None) == total
    assert total.hits("refusal") == (9 + 5, 2)
    for broken in ({}, {**one.told(), "requests": -1}, {**one.told(), "times": [1]}, {**one.told(), "found": None}):
        with pytest.raises(ValueError, match="not a tally"):
            Tally.read(broken)


def test_buckets_hold_what_they_say():
    for ms in (0.2, 1.0, 1.5, 90.0, 1_000.0, 50_000.0):
        bucket = bucket_of(ms)
        assert ms < edge_ms(bucket + 1)
        assert ms >= edge_ms(bucket) or bucket == 0
    assert bucket_of(1e12) == BUCKETS - 1
