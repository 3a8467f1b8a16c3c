"""What answers for the models of an evaluation: started when first asked, one model after another, stopped behind it.

Nothing starts for a model whose cases were all answered before: no engine, and no cluster either.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

from flywheel.config import EndpointConfig, FlywheelConfig
from flywheel.errors import FlywheelError, UsageError
from flywheel.evaluation.run import BLOCK, Generate
from flywheel.inference.batch import BatchEngine
from flywheel.inference.endpoint import Endpoint
from flywheel.inference.generate import Completion, generate
from flywheel.lake.tables import Lake
from flywheel.records import Message
from flywheel.registry.versions import content_of, resolve
from flywheel.rollout import routing
from flywheel.rollout.routing import Variant
from flywheel.workflow.cluster import connected
from flywheel.workflow.turns.engines import serving

ENDPOINT: Final = "endpoint:"
BLOCKS: Final = {"serve": BLOCK, "batch": 50_000, "endpoint": 256}
"""Cases between two commits. A batch job pays its engine's start each time; an endpoint's answers cost money."""


@dataclass(frozen=True)
class Model:
    """A model of an evaluation. ``content`` identifies it whatever it is called; ``folder`` None: at the endpoint."""

    name: str
    version: str
    content: str
    folder: str | None = None

    @property
    def outside(self) -> bool:
        """Whether what it is asked leaves the cluster."""
        return self.folder is None


def find_model(lake: Lake, config: FlywheelConfig, name: str, endpoint: EndpointConfig | None) -> Model:
    """A model by what somebody calls it: ``live``, a version, a folder, ``endpoint:NAME``.

    Raises:
        UsageError: no such model, no live one, or no endpoint to ask.
        ModelError: it is there and cannot be served.
    """
    if name.startswith(ENDPOINT):
        if endpoint is None:
            raise UsageError(f"'{name}' needs to know where to ask: --endpoint https://host/v1")
        version = name.removeprefix(ENDPOINT)
        return Model(name, version, f"{endpoint.url.rstrip('/')} {version}")
    if name == "live":
        truth = routing.current(lake.store, config.flow)
        if truth is None:
            raise UsageError(f"The flow '{config.flow}' has no live model; name a version or a folder.")
        live = truth.live
        return Model(name, live.version, content_of(lake, config.flow, live.version), live.folder)
    found = resolve(lake, config, name)
    return Model(name, found.version, found.content_hash, str(found.folder))


class FirstUse:
    """A ``Generate`` that starts when it is first called. A start that failed fails every later call alike."""

    def __init__(self, start: Callable[[], Generate]) -> None:
        self._start = start
        self._started: Generate | FlywheelError | None = None

    def __call__(self, version: str, conversations: Sequence[Sequence[Message]], **settings: Any) -> list[Completion]:
        """Start if need be, then pass on."""
        if self._started is None:
            try:
                self._started = self._start()
            except FlywheelError as error:
                self._started = error
        if isinstance(self._started, FlywheelError):
            raise self._started
        return self._started(version, conversations, **settings)


class Answering:
    """Answers for one model at a time; inside ``with`` the cluster stays, once something needed it."""

    def __init__(self, lake: Lake, config: FlywheelConfig, endpoint: EndpointConfig | None = None) -> None:
        self._lake, self._config, self._endpoint = lake, config, endpoint
        self._cluster = contextlib.ExitStack()
        self._connected = False

    def __enter__(self) -> Answering:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._cluster.__exit__(kind, error, trace)

    @contextlib.contextmanager
    def model(self, model: Model) -> Iterator[Generate]:
        """What answers for ``model``; its engine is stopped at the end, unless a gateway needs it."""
        with contextlib.ExitStack() as engine:
            yield FirstUse(lambda: self._generate(model, engine))

    def block(self, model: Model) -> int:
        """How many cases of ``model`` to answer between two commits."""
        return BLOCKS["endpoint" if model.outside else self._config.evaluation.engine]

    def _generate(self, model: Model, engine: contextlib.ExitStack) -> Generate:
        if model.folder is None:
            assert self._endpoint is not None  # find_model saw to it
            return Endpoint(self._endpoint.url, self._endpoint.key_env)
        if not self._connected:
            self._cluster.enter_context(connected(self._config))
            self._connected = True
        if self._config.evaluation.engine == "batch":
            return BatchEngine(model.folder, self._config.engine)
        engine.enter_context(serving(self._lake, self._config, Variant(version=model.version, folder=model.folder)))
        return generate
