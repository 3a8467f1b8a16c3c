"""Which signals a scoring measures, and the version under which each one's values are stored. Pure.

A version covers everything that the values depend on and nothing else: the signal's own definition, the rows, and of
the rest (reward models, folds, settings) what it declares to read. So a change of one signal gives one new version,
and the others are found in the lake.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flywheel.config import FlywheelConfig
from flywheel.errors import ConfigError
from flywheel.lake.manifests import content_id
from flywheel.quality.signals import SIGNALS
from flywheel.quality.signals.declare import Declared

REWARDS = frozenset({"margin", "preference", "wins", "advantage", "liked_advantages", "raters", "mean_support"})
"""Inputs that come from the reward models of the build."""
PEERS = frozenset({"agreement", "raters", "mean_support"})
"""Inputs that come from the cross-fitted model of other people's answers."""
PRIVACY = frozenset({"privacy", "names"})


def switched_on(config: FlywheelConfig) -> list[Declared]:
    """Signals that this configuration measures.

    Raises:
        ConfigError: ``quality.signals.off`` names a signal that there is not.
    """
    settings = config.quality.signals
    unknown = sorted(set(settings.off) - SIGNALS.keys())
    if unknown:
        raise ConfigError(
            f"quality.signals.off: there is no signal {', '.join(unknown)}; `flywheel signals` lists them"
        )
    on = {
        "reward.models": bool(settings.reward.models),
        "perplexity.enabled": settings.perplexity.enabled,
        "toxicity.model": settings.toxicity.model is not None,
        "similarity.encoder": settings.similarity.encoder is not None,
        "judge.enabled": settings.judge.enabled,
        "engagement.enabled": settings.engagement.enabled,
    }
    return [
        one for one in SIGNALS.values() if one.name not in settings.off and (one.setting is None or on[one.setting])
    ]


def versions(
    signals: Sequence[Declared], *, rows: str, models: Sequence[Any], settings: Mapping[str, Any]
) -> dict[str, str]:
    """Signal -> version of its values.

    Args:
        signals: those that are measured.
        rows: identity of the candidates.
        models: identity of the reward models, and whether there are any.
        settings: ``folds``, ``privacy``, and by name of a signal what identifies its network or judge.
    """
    return {one.name: content_id(one.name, rows, one.version, _reads(one, models, settings)) for one in signals}


def _reads(one: Declared, models: Sequence[Any], settings: Mapping[str, Any]) -> list[Any]:
    inputs = set(one.inputs)
    found: list[Any] = []
    if inputs & REWARDS:
        found.append(["rewards", list(models)])
    if inputs & PEERS:
        found.append(["peers", SIGNALS["agreement"].version, settings.get("folds")])
    if inputs & PRIVACY:
        found.append(["privacy", settings.get("privacy")])
    if one.name in settings:
        found.append([one.name, settings[one.name]])
    return found
