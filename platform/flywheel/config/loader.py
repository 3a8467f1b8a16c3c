"""One loader for every configuration file: closed, with the nearest key named on a typo."""

from __future__ import annotations

import difflib
import hashlib
import json
import types
import typing
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from flywheel.config.base import Config
from flywheel.config.deciding import GatePolicy
from flywheel.config.learning import FilterConfig
from flywheel.config.models import FlywheelConfig
from flywheel.config.places import line_of
from flywheel.errors import ConfigError

T = TypeVar("T", bound=Config)


def load(model: type[T], path: Path | None = None, overrides: dict[str, Any] | None = None) -> T:
    """Read ``path`` (none: defaults), apply ``{"section.key": value}`` overrides, validate.

    Raises:
        ConfigError: names the file, the key and, for an unknown key, the nearest known one.
    """
    source = str(path) if path else "defaults"
    data = _read(path) if path else {}
    for dotted, value in (overrides or {}).items():
        _set(data, dotted, value)
    try:
        loaded = model.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"{source}: {_explain(model, error, path, overrides or ())}") from error
    if isinstance(loaded, FlywheelConfig):
        whole = _with_files(loaded)
        _check_reachable(whole, source)
        return typing.cast("T", whole)
    return loaded


def parse_overrides(pairs: list[str]) -> dict[str, Any]:
    """``["training.epochs=2"]`` -> ``{"training.epochs": 2}``; values are YAML."""
    parsed: dict[str, Any] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise ConfigError(f"override '{pair}' is not of the form section.key=value")
        parsed[key] = yaml.safe_load(value)
    return parsed


def dump(config: Config, path: Path) -> None:
    """Write a config as YAML that ``load`` reads back to an equal value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))


def config_hash(config: Config, *, without: Collection[str] = ()) -> str:
    """Content hash of a config but for the sections in ``without``, 16 hex digits: same settings, same hash."""
    canonical = json.dumps(config.model_dump(mode="json", exclude=set(without)), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _with_files(config: FlywheelConfig) -> FlywheelConfig:
    """Sections that lie in files of their own, put in place."""
    quality, rollout = config.quality, config.rollout
    if quality.filter_file is not None:
        quality = quality.model_copy(update={"filter": load(FilterConfig, quality.filter_file)})
    if rollout.gate_file is not None:
        rollout = rollout.model_copy(update={"gate": load(GatePolicy, rollout.gate_file)})
    return config.model_copy(update={"quality": quality, "rollout": rollout})


def _check_reachable(config: FlywheelConfig, source: str) -> None:
    """A gate that asks for more cases than its suite may ever hold would promote nothing, for ever."""
    if "regression" not in config.guard_suites():
        return
    most, least = config.evaluation.regression.max_cases, config.rollout.gate.guard("regression").min_cases
    if most < least:
        raise ConfigError(
            f"{source}: evaluation.regression.max_cases is {most}, but the gate asks for {least} cases of that suite, "
            "so nothing could ever be promoted; raise the one, or set rollout.gate.guards.regression.min_cases lower"
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise ConfigError(f"{path} does not exist; shipped examples are under configs/") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must hold a mapping, not a {type(data).__name__}")
    return data


def _set(data: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, leaf = dotted.split(".")
    for parent in parents:
        data = data.setdefault(parent, {})
        if not isinstance(data, dict):
            raise ConfigError(f"override '{dotted}': '{parent}' is not a section")
    data[leaf] = value


def _explain(model: type[BaseModel], error: ValidationError, path: Path | None, overridden: Collection[str]) -> str:
    lines = []
    for item in error.errors():
        place = f"'{'.'.join(str(part) for part in item['loc'])}'" if item["loc"] else "the file"
        line = None if _among(item["loc"], overridden) else line_of(path, item["loc"])
        place += f" (line {line})" if line else ""
        if item["type"] == "extra_forbidden":
            *section, key = item["loc"]
            known = list(_section(model, [str(part) for part in section]).model_fields)
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.4)
            hint = f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(known)}"
            lines.append(f"unknown key {place}; {hint}")
        else:
            given = "" if isinstance(item["input"], Mapping | BaseModel) else f" (got {item['input']!r})"
            lines.append(f"{place}: {item['msg'].removeprefix('Value error, ')}{given}")
    return "; ".join(lines)


def _among(place: tuple[int | str, ...], keys: Collection[str]) -> bool:
    """Whether a value came from an override and not from the file."""
    written = ".".join(str(part) for part in place) + "."
    return any(written.startswith(f"{key}.") or f"{key}.".startswith(written) for key in keys)


def _section(model: type[BaseModel], path: list[str]) -> type[BaseModel]:
    for part in path:
        if part.isdecimal():  # an item of a list: its fields are those of the list's type
            continue
        field = model.model_fields.get(part)
        inner = _as_model(field.annotation) if field else None
        if inner is None:
            return model
        model = inner
    return model


def _as_model(annotation: Any) -> type[BaseModel] | None:
    """The model in ``Model``, ``Model | None``, ``list[Model]`` or ``tuple[Model, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) in (list, tuple):
        return next((found for option in typing.get_args(annotation) if (found := _as_model(option))), None)
    return None
