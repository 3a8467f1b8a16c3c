"""An engine is not stopped under somebody, whoever comes and goes at the same moment."""

import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from flywheel.errors import EngineError
from flywheel.inference import users

pytestmark = [pytest.mark.ray, pytest.mark.slow]

OTHER = """
import sys, time, ray
from flywheel.inference import users
ray.init(address=sys.argv[1], log_to_driver=False)
with users.using(["v1"]):
    print("using", flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def address():
    import ray

    context = ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield context.address_info["gcs_address"]
    ray.shutdown()


def test_in_use_and_free_again(address):
    with users.using(["v1", "v2"]), users.stopping("v1") as unused, users.stopping("v3") as other:
        assert (unused, other) == (False, True)
    with users.stopping("v1") as unused:
        assert unused


def test_who_waits_for_a_stop_that_never_ends_is_told(address):
    with users.stopping("v1") as unused:
        assert unused
        with pytest.raises(EngineError, match=r"stopping the engine of v1 for 0\.3 s"), users.using(["v1"], 0.3):
            pytest.fail("it is being stopped")
    with users.using(["v1"], 0.3):
        pass


def test_a_mark_outlives_its_worker(address):
    import ray

    with users.using(["v1"]):
        (name,) = users._names()
        mark = ray.get_actor(name, namespace=users.NAMESPACE)
        ray.kill(mark, no_restart=False)
        time.sleep(1)
        with users.stopping("v1") as unused:
            assert not unused
    assert not users._names()


def test_a_killed_user_uses_nothing(address):
    command = [sys.executable, "-c", OTHER, address]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "using\n"
        with users.stopping("v1") as unused:
            assert not unused
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with users.stopping("v1") as unused:
            if unused:
                return
        time.sleep(0.2)
    pytest.fail("the mark of a killed process stayed")


def test_many_who_come_and_go(address):
    running, surprised = set(), []

    def work(seed):
        chance = random.Random(seed)
        for _ in range(12):
            with users.using(["v1"]):
                running.add("v1")  # as engines.start does: only where it does not run
                for _ in range(4):
                    time.sleep(chance.uniform(0, 0.02))
                    if "v1" not in running:
                        surprised.append(seed)
            with users.stopping("v1") as unused:
                time.sleep(chance.uniform(0, 0.05))
                if unused:
                    running.discard("v1")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert not surprised
    assert not running
