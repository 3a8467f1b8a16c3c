"""Rankers by the name that the configuration gives; the reward model is a Serve application, found by its name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from flywheel.config import FlywheelConfig
from flywheel.gateway.choosing.rankers import (
    Candidate,
    GivenScores,
    Likelihood,
    NoRanker,
    Ranker,
    RankerProblem,
    Scored,
)
from flywheel.inference.rankers import app_name
from flywheel.records import Message

_OWN: Final[dict[str, Callable[[], Ranker]]] = {
    "none": NoRanker,
    "given": GivenScores,
    "engagement": GivenScores,  # until one is promoted; see ``engagement``
    "likelihood": Likelihood,
}


def find_ranker(name: str, config: FlywheelConfig) -> Ranker:
    """The ranker of that name; nothing is started or asked yet."""
    if name in _OWN:
        return _OWN[name]()
    version = config.gateway.ranker.name()
    assert version is not None, "the configuration is refused without one"
    return ServedRanker(version)


class ServedRanker:
    """A reward model behind a Serve handle, kept until it fails."""

    name = "reward"

    def __init__(self, version: str) -> None:
        self._version = version
        self._handle: Any = None

    async def score(self, messages: Sequence[Message], candidates: Sequence[Candidate]) -> Scored:
        """What the application says, with its own word on its version.

        Raises:
            RankerProblem: it is not there, or it failed.
        """
        from ray.exceptions import RayError
        from ray.serve.exceptions import RayServeException

        response: Any = None
        try:
            if self._handle is None:
                from ray import serve

                self._handle = await asyncio.to_thread(serve.get_app_handle, app_name(self._version))
            response = self._handle.score.remote(
                [message.model_dump() for message in messages], [candidate.text for candidate in candidates]
            )
            answer = await response
        except asyncio.CancelledError:
            if response is not None:
                response.cancel()  # late: free its place
            raise
        except (RayError, RayServeException) as error:
            self._handle = None  # a handle of a removed application never works again
            raise RankerProblem("unavailable", f"'{app_name(self._version)}': {type(error).__name__}") from error
        if "error" in answer:
            raise RankerProblem("failed", answer["error"])
        return Scored(answer["scores"], answer["version"])
