"""MLflow, quietly: where runs and aliases can be looked at. The lake holds the truth, this is its projection.

Everything that MLflow raises becomes an ``EnvironmentProblem`` that says what to start and what to run again.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flywheel.config import FlywheelConfig
from flywheel.errors import EnvironmentProblem
from flywheel.telemetry import apply_environment

if TYPE_CHECKING:
    from mlflow import MlflowClient

KEY_TAG: Final = "flywheel.key"
VERSION_TAG: Final = "flywheel.version"
_LOGGERS: Final = ("mlflow", "mlflow.store.db.utils", "alembic", "alembic.runtime.migration")
_HEALTH_SECONDS: Final = 5.0
_BATCH: Final = 500
"""Metrics in one call; MLflow takes 1,000 at the most."""

_clients: dict[str, Any] = {}


def tracking_uri(config: FlywheelConfig) -> str:
    """``tracking.uri``, else ``MLFLOW_TRACKING_URI``, else a SQLite file under home."""
    given = config.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI")
    return given or f"sqlite:///{config.home_path() / 'mlflow.db'}"


def client(config: FlywheelConfig) -> MlflowClient:
    """A client whose server answered (HTTP) or whose tables exist (SQLite; about 2 s at the very first use).

    Raises:
        EnvironmentProblem: MLflow does not answer.
    """
    uri = tracking_uri(config)
    if uri not in _clients:
        with problems(config):
            _clients[uri] = _connect(config, uri)
    if uri.startswith("http"):
        _ask(uri)
    return _clients[uri]


def track(
    config: FlywheelConfig,
    *,
    key: str,
    name: str,
    params: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
    series: Mapping[str, Sequence[float]] | None = None,
    artifacts: Mapping[str, str | Path] | None = None,
    tags: Mapping[str, str] | None = None,
) -> str:
    """Log one run and return its id. The same ``key`` (a turn, a training) always means the same run.

    Args:
        config: where MLflow is, and the experiment.
        key: identity of what is logged; a step that is run again adds to the run it began.
        name: what a person sees.
        params: settings; one that is there already keeps its value, as MLflow wants it.
        metrics: final numbers.
        series: numbers per step, from step 0.
        artifacts: file name -> text, or a path to upload under its own name.
        tags: more labels.

    Raises:
        EnvironmentProblem: MLflow does not answer.
    """
    from mlflow.entities import Metric, Param

    api = client(config)
    with problems(config):
        run_id = _run(api, config, key, name, tags or {})
        known = api.get_run(run_id).data.params
        fresh = [Param(item, str(value)[:6000]) for item, value in (params or {}).items() if item not in known]
        now = int(time.time() * 1000)
        points = [Metric(item, float(value), now, 0) for item, value in (metrics or {}).items()]
        points += [
            Metric(item, float(value), now, step)
            for item, values in (series or {}).items()
            for step, value in enumerate(values)
        ]
        for start in range(0, max(len(points), 1), _BATCH):
            api.log_batch(run_id, metrics=points[start : start + _BATCH], params=fresh if start == 0 else [])
        for item, content in (artifacts or {}).items():
            if isinstance(content, Path):
                api.log_artifact(run_id, str(content))
            else:
                api.log_text(run_id, content, item)
        api.set_terminated(run_id)
    return run_id


def register_version(config: FlywheelConfig, *, version: str, source: str, run_id: str, tags: Mapping[str, str]) -> str:
    """MLflow's number for ``version`` in the registered model named after the flow; made when missing.

    Raises:
        EnvironmentProblem: MLflow does not answer.
    """
    from mlflow.exceptions import MlflowException

    api = client(config)
    with problems(config):
        try:
            api.create_registered_model(config.flow)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        found = version_numbers(config).get(version)
        if found is not None:
            return found
        remote = tracking_uri(config).startswith("http") and "://" not in source
        made = api.create_model_version(
            config.flow,
            source=f"runs:/{run_id}/model" if remote else source,  # a server refuses paths that it cannot see
            run_id=run_id,
            tags={**tags, VERSION_TAG: version, "flywheel.source": source},
        )
    return str(made.version)


def version_numbers(config: FlywheelConfig) -> dict[str, str]:
    """Flywheel's version names -> MLflow's version numbers."""
    api = client(config)
    with problems(config):
        found: dict[str, str] = {}
        token: str | None = None
        while True:
            page = api.search_model_versions(f"name = '{config.flow}'", page_token=token)
            found |= {item.tags[VERSION_TAG]: str(item.version) for item in page if VERSION_TAG in item.tags}
            token = page.token
            if not token:
                return found


def project_aliases(config: FlywheelConfig, aliases: Mapping[str, str | None]) -> dict[str, str]:
    """Make MLflow's aliases say what routing says; None removes one. Idempotent.

    Args:
        config: flow and MLflow.
        aliases: e.g. ``{"live": "triage-v0002", "candidate": None}``.

    Returns:
        The aliases now set, alias -> version name.

    Raises:
        EnvironmentProblem: MLflow does not answer, or does not know a version.
    """
    api, numbers = client(config), version_numbers(config)
    unknown = sorted({name for name in aliases.values() if name is not None and name not in numbers})
    if unknown:
        raise EnvironmentProblem(
            f"MLflow at {tracking_uri(config)} has no version {', '.join(unknown)} of '{config.flow}'; register the "
            "model there, or point tracking.uri to the MLflow that knows it"
        )
    with problems(config):
        for alias, version in aliases.items():
            if version is not None:
                api.set_registered_model_alias(config.flow, alias, numbers[version])
            elif numbers:
                api.delete_registered_model_alias(config.flow, alias)
    return {alias: version for alias, version in aliases.items() if version is not None}


@contextmanager
def problems(config: FlywheelConfig) -> Iterator[None]:
    """Whatever MLflow or its transport raises inside becomes an ``EnvironmentProblem``."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, RequestException, SQLAlchemyError, OSError) as error:
        raise EnvironmentProblem(_down(tracking_uri(config), str(error))) from error


def _down(uri: str, why: str) -> str:
    line = next(iter(why.splitlines()), "no message")[:200]
    return (
        f"MLflow at {uri} cannot be used ({line}); start it, or correct tracking.uri or MLFLOW_TRACKING_URI, "
        "then run the same command again: finished steps are kept"
    )


def _connect(config: FlywheelConfig, uri: str) -> MlflowClient:
    apply_environment()
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    from filelock import FileLock
    from mlflow import MlflowClient

    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    if not uri.startswith("sqlite:"):
        if uri.startswith("http"):
            _ask(uri)
        return MlflowClient(tracking_uri=uri, registry_uri=uri)
    home = config.home_path()
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / "mlflow.lock"):  # two first users would both create the tables
        api = MlflowClient(tracking_uri=uri, registry_uri=uri)
        api.search_experiments(max_results=1)
        api.search_registered_models(max_results=1)
    return api


def _ask(uri: str) -> None:
    import httpx

    try:
        answer = httpx.get(f"{uri.rstrip('/')}/health", timeout=_HEALTH_SECONDS)
    except httpx.HTTPError as error:
        raise EnvironmentProblem(_down(uri, str(error) or type(error).__name__)) from error
    if answer.status_code >= 500:
        raise EnvironmentProblem(_down(uri, f"its health check answered {answer.status_code}"))


def _run(api: MlflowClient, config: FlywheelConfig, key: str, name: str, tags: Mapping[str, str]) -> str:
    experiment = _experiment(api, config)
    found = api.search_runs([experiment], filter_string=f"tags.`{KEY_TAG}` = '{key}'", max_results=1)
    if found:
        return found[0].info.run_id
    return api.create_run(
        experiment, run_name=name, tags={**tags, KEY_TAG: key, "flywheel.flow": config.flow}
    ).info.run_id


def _experiment(api: MlflowClient, config: FlywheelConfig) -> str:
    from mlflow.exceptions import MlflowException

    name = config.tracking.experiment
    found = api.get_experiment_by_name(name)
    if found is None:
        local = tracking_uri(config).startswith("sqlite:")
        # MLflow's own default would be ./mlruns of whatever folder the command was started in.
        place = (config.home_path() / "mlflow-artifacts").as_uri() if local else None
        try:
            return api.create_experiment(name, artifact_location=place)
        except MlflowException as error:
            found = api.get_experiment_by_name(name)
            if error.error_code != "RESOURCE_ALREADY_EXISTS" or found is None:
                raise
    return found.experiment_id
