import pytest

from flywheel.errors import EngineError, FlywheelError, InputError, LakeError
from flywheel.workflow.failures import explained, is_of_ray

NESTED = """ray::Map(write)() (pid=13569, ip=192.0.2.2)
obstore.exceptions.GenericError: 403 Forbidden

The above exception was the direct cause of the following exception:

ray::Map(write)() (pid=13569, ip=192.0.2.2)
flywheel.errors.LakeError: s3://bucket/tables/signals: no key was found; set AWS_ACCESS_KEY_ID

The above exception was the direct cause of the following exception:

ray.exceptions.UserCodeException: UDF failed to process a data block.
To change retry attempts, configure the context.
"""


def test_what_our_code_said_on_a_worker_is_what_the_user_reads():
    error = explained(RuntimeError(NESTED))
    assert type(error) is LakeError
    assert str(error) == "s3://bucket/tables/signals: no key was found; set AWS_ACCESS_KEY_ID"


@pytest.mark.parametrize("name", ["InputError", "NoSuchError"])
def test_an_error_that_cannot_be_made_again_keeps_its_sentence(name):
    error = explained(RuntimeError(f"flywheel.errors.{name}: line 3 is bad"))
    assert type(error) is FlywheelError
    assert str(error) == "line 3 is bad"


def test_without_a_sentence_of_ours_the_last_line_and_the_way_out():
    error = explained(RuntimeError("Traceback\n  somewhere\nActorDiedError: the node is gone."))
    assert "ActorDiedError: the node is gone. Look into" in str(error)


def test_only_what_ray_raised_is_translated():
    from ray.exceptions import RaySystemError

    assert is_of_ray(RaySystemError("x"))
    assert not is_of_ray(EngineError("x"))
    assert not is_of_ray(InputError("f", 1, "x", "y"))
