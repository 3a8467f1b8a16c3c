"""An instrument: the networks behind one signal, as settings that travel, and as a function once it is loaded."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from flywheel.config import FlywheelConfig
from flywheel.errors import ModelError
from flywheel.inference.encoder import WORDLLAMA, check_encoder
from flywheel.lake.manifests import content_id
from flywheel.quality.reward import folder_hash
from flywheel.quality.signals.networks.base import Effort, Item, Network, run

Kind = Literal["reward", "perplexity", "toxicity", "similarity"]


@dataclass(frozen=True)
class Instrument:
    """Settings of the networks that measure one signal; ``identity`` is the content of their folders and settings."""

    signal: str
    kind: Kind
    folders: tuple[str, ...]
    max_length: int
    batch_tokens: int
    threads: int = 1
    label: str = ""
    spread_penalty: float = 0.0

    @property
    def identity(self) -> str:
        """Changes with whatever changes a value; not with where the folders lie."""
        contents = [one if one == WORDLLAMA else folder_hash(Path(one)) for one in self.folders]
        return content_id("net", self.kind, contents, self.max_length, self.label, self.spread_penalty)[-8:]

    def open(self) -> Loaded:
        """Load the networks.

        Raises:
            ModelError: a folder does not hold what is needed. EnvironmentProblem: a package is missing.
        """
        import torch

        torch.set_num_threads(self.threads)
        if self.folders == (WORDLLAMA,):
            from flywheel.quality.signals.networks.encoder import StaticSimilarity

            return Loaded(self, StaticSimilarity())
        networks = [self.network(place) for place in range(len(self.folders))]
        return Loaded(self, partial(_ensemble, networks, self))

    def network(self, place: int = 0) -> Network:
        """One of the networks alone.

        Raises:
            ModelError: its folder does not hold what is needed.
        """
        return _network(self, self.folders[place])


class Loaded:
    """An instrument in memory; call it with items, get one value each."""

    def __init__(self, instrument: Instrument, measure: Callable[[Sequence[Item], Effort], list[float | None]]) -> None:
        """Remember the function, and count what goes through it."""
        self.instrument, self._measure, self.effort = instrument, measure, Effort()

    def __call__(self, items: Sequence[Item]) -> list[float | None]:
        """Values rounded to six significant digits."""
        values = self._measure(items, self.effort)
        return [None if value is None else float(f"{value:.6g}") for value in values]


def configured(config: FlywheelConfig, live_model: Path | None = None) -> dict[str, Instrument]:
    """Signal -> instrument, of those that the configuration turns on.

    Args:
        config: ``quality.signals``.
        live_model: what ``perplexity`` asks where it names no model.

    Raises:
        ModelError: a folder is missing. EnvironmentProblem: a package is missing.
    """
    settings = config.quality.signals
    shared: dict[str, Any] = {"batch_tokens": settings.pool.batch_tokens, "threads": settings.pool.threads}
    found: list[Instrument] = []
    if settings.reward.models:
        folders = tuple(_folder(one) for one in settings.reward.models)
        found.append(Instrument("reward", "reward", folders, settings.reward.max_length,
                                spread_penalty=settings.reward.spread_penalty, **shared))  # fmt: skip
    if settings.perplexity.enabled:
        asked = settings.perplexity.model or live_model
        if asked is None:
            raise ModelError("perplexity needs a model: set quality.signals.perplexity.model to a folder.")
        found.append(
            Instrument("perplexity", "perplexity", (_folder(asked),), settings.perplexity.max_length, **shared)
        )
    if settings.toxicity.model is not None:
        found.append(Instrument("toxicity", "toxicity", (_folder(settings.toxicity.model),),
                                settings.toxicity.max_length, label=settings.toxicity.label, **shared))  # fmt: skip
    if settings.similarity.encoder is not None:
        name = settings.similarity.encoder
        if name == WORDLLAMA:
            check_encoder(name)
        place = name if name == WORDLLAMA else _folder(Path(name))
        found.append(Instrument("reprompt_semantic", "similarity", (place,), settings.similarity.max_length, **shared))
    return {one.signal: one for one in found if one.signal not in settings.off}


def _folder(path: Path) -> str:
    found = path.expanduser().resolve()
    if not found.is_dir():
        raise ModelError(f"{path} (quality.signals) is not a folder; give one that save_pretrained() wrote")
    return str(found)


def _network(instrument: Instrument, folder: str) -> Network:
    from flywheel.quality.signals.networks.classifier import RewardNetwork, ToxicityNetwork
    from flywheel.quality.signals.networks.encoder import SimilarityNetwork
    from flywheel.quality.signals.networks.likelihood import PerplexityNetwork

    made: dict[Kind, Callable[[], Network]] = {
        "reward": lambda: RewardNetwork(folder, instrument.max_length),
        "perplexity": lambda: PerplexityNetwork(folder, instrument.max_length),
        "toxicity": lambda: ToxicityNetwork(folder, instrument.label, instrument.max_length),
        "similarity": lambda: SimilarityNetwork(folder, instrument.max_length),
    }
    return made[instrument.kind]()


def _ensemble(
    networks: Sequence[Network], instrument: Instrument, items: Sequence[Item], effort: Effort
) -> list[float | None]:
    members: list[Any] = [run(one, items, batch_tokens=instrument.batch_tokens, effort=effort) for one in networks]
    return [combine(values, instrument.spread_penalty) for values in zip(*members, strict=True)]


def combine(values: Sequence[float | None], spread_penalty: float) -> float | None:
    """The mean - lambda * standard deviation: what the members disagree about is not to be trusted.

    As in Coste et al. 2023, "Reward Model Ensembles Help Mitigate Overoptimization" (with the deviation in place of
    the variance, so that lambda has no unit). Members must share a scale.
    """
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    return statistics.fmean(known) - spread_penalty * statistics.pstdev(known)
