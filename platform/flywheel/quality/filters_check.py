"""Does a filter speak of signals that there are? A rule on a misspelt one would pass every row, silently."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from flywheel.config import FilterConfig
from flywheel.errors import ConfigError


def signals_of(config: FilterConfig) -> Iterator[tuple[str, str]]:
    """(where, signal) of everything that reads a signal."""
    for place, rule in enumerate(config.rules):
        yield f"rules.{place} ({rule.reason})", rule.signal
    for place, vote in enumerate(config.votes.of):
        yield f"votes.of.{place}", vote.signal
    for place, term in enumerate(config.weights.of if config.weights else ()):
        yield f"weights.of.{place}", term.signal


def check_filter(config: FilterConfig, source: str | None = None) -> None:
    """Refuse a filter that names a signal which nothing measures.

    Raises:
        ConfigError: names the place and the nearest signal.
    """
    from flywheel.quality.signals import SIGNALS

    known = sorted(SIGNALS)
    problems: list[str] = []
    for place, signal in signals_of(config):
        if signal not in known:
            near = difflib.get_close_matches(signal, known, n=1, cutoff=0.4)
            hint = f"did you mean '{near[0]}'?" if near else f"signals: {', '.join(known)}"
            problems.append(f"{place} reads the signal '{signal}', which nothing measures; {hint}")
    if problems:
        raise ConfigError(f"{source or f'filter {config.version}'}: {'; '.join(problems)}")
