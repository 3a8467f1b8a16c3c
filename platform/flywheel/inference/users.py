"""Who needs which engine: marks in Ray's register of named actors.

A mark is an actor of its user's job, so that it is gone when that process is, however it ended, and not before: one
whose node is lost begins again on another. Who uses an engine
says so first and then waits for whoever stops it; who stops one says so first and then looks for users. One of the
two always sees the other, since the register has one order for all.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Final

from flywheel.errors import EngineError

NAMESPACE: Final = "flywheel-engines"
POLL_S: Final = 0.05


class Mark:
    """An actor that does nothing but live."""


@contextlib.contextmanager
def using(versions: Sequence[str], within_s: float = 300) -> Iterator[None]:
    """Keep others from stopping these engines. Those that are being stopped right now are waited for.

    Args:
        versions: model versions, whether their engines run already or not.
        within_s: how long to wait.

    Raises:
        EngineError: somebody is stopping one of them all this time.
    """
    deadline = time.monotonic() + within_s
    with contextlib.ExitStack() as marks:
        for version in versions:
            marks.enter_context(_marked("use", version))
        for version in versions:
            while _others("stop", version):
                if time.monotonic() > deadline:
                    raise EngineError(
                        f"Somebody has been stopping the engine of {version} for {within_s:g} s; look at Ray Serve's "
                        "controller (ray status, serve status), and try again."
                    )
                time.sleep(POLL_S)
        yield


@contextlib.contextmanager
def stopping(version: str) -> Iterator[bool]:
    """Keep others from beginning to use this engine; yields whether nobody uses it."""
    if _others("use", version):  # no need to say anything
        yield False
        return
    with _marked("stop", version):
        yield not _others("use", version)


@contextlib.contextmanager
def _marked(kind: str, version: str) -> Iterator[None]:
    import ray

    name = f"{kind}:{version}:{uuid.uuid4().hex}"
    mark: Any = ray.remote(num_cpus=0)(Mark).options(name=name, namespace=NAMESPACE, max_restarts=-1).remote()
    try:
        yield
    finally:
        ray.kill(mark)
        while name in _names():  # until then the next one would take it for somebody else's
            time.sleep(POLL_S)


def _others(kind: str, version: str) -> bool:
    return any(name.startswith(f"{kind}:{version}:") for name in _names())


def _names() -> set[str]:
    import ray

    found: Any = ray.util.list_named_actors(all_namespaces=True)
    return {actor["name"] for actor in found if actor["namespace"] == NAMESPACE}
