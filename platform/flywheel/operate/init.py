"""``flywheel init``: a folder with everything that one flow starts from."""

from __future__ import annotations

import json
import typing
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from flywheel.config import FlywheelConfig, load
from flywheel.errors import ConfigError, UsageError
from flywheel.operate.readiness import Counts, checklist
from flywheel.records import Purpose
from flywheel.registry.sources import is_repository

CONFIG = "flywheel.yaml"
FILES = (
    CONFIG, "README.md", "examples/client.py", "examples/request.sh", "examples/chat.py", "examples/chat.html",
)  # fmt: skip
"""Each is rendered from the template of its last name."""
BROWSER_FILE = "examples/flywheel.js"
SECRETS = ".flywheel/"
LONGEST_CONTEXT = 2_048

Action = Literal["written", "replaced", "kept", "unchanged", "extended"]
Prompt = Callable[[str, str], str]
"""(question, default) -> answer."""


@dataclass(frozen=True)
class Answers:
    """What a flow is made from; the defaults are those of the questions."""

    flow: str = "triage"
    model: str = "tiny"
    lake: str = "local"
    consent: str = "training,evaluation"
    schedule: str = "weekly"


QUESTIONS: Mapping[str, str] = {
    "flow": "Name of the flow (what clients pass as `model`)",
    "model": "First model: a folder in Hugging Face layout, a Hugging Face id, or 'tiny' to try things",
    "lake": "Lake: 'local', a folder, or s3://bucket/prefix",
    "consent": "What the example's user agrees to (training, evaluation, third_party, or none)",
    "schedule": "A turn at the latest: none, daily, weekly, or cron fields",
}


def collect(given: Mapping[str, str | None], folder: Path, prompt: Prompt | None = None) -> Answers:
    """Flags, else the folder's own configuration, else (with a ``prompt``) questions, else defaults.

    Raises:
        UsageError: a flag cannot be used; at the prompt the question is repeated instead.
    """
    known = _of_folder(folder)
    values = {}
    for name, question in QUESTIONS.items():
        stated = given.get(name) or known.get(name)
        if stated is None and prompt is not None:
            values[name] = _ask(name, question, prompt)
        else:
            values[name] = CHECKS[name](stated or getattr(Answers, name))
    return Answers(**values)


def write(folder: Path, answers: Answers, *, force: bool = False) -> dict[str, Action]:
    """Write the files. What exists and differs is kept, unless ``force``; ``.gitignore`` only ever gains a line.

    Returns:
        What happened to each file, by its path in ``folder``.
    """
    done: dict[str, Action] = {}
    for name, text in render(answers).items():
        done[name] = _put(folder / name, text, force=force)
    done[".gitignore"] = _ignore_secrets(folder / ".gitignore")
    return done


def render(answers: Answers) -> dict[str, str]:
    """The text of every file. Pure, but for the size that a model folder states."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    values: dict[str, Any] = {
        **asdict(answers),
        "lake": None if answers.lake == "local" else answers.lake,
        "consent": None if answers.consent == "none" else answers.consent,
        "context": _context(answers.model),
    }
    asked = load(FlywheelConfig, overrides={"first_model": answers.model, "evaluation.guard_suites": ["golden"]})
    values["checklist"] = checklist(Counts(), asked)
    templates = resources.files("flywheel.operate") / "templates"
    rendered = {
        name: environment.from_string((templates / f"{Path(name).name}.jinja").read_text()).render(values)
        for name in FILES
    }
    return {**rendered, BROWSER_FILE: (resources.files("flywheel.client") / "flywheel.js").read_text()}


def _of_folder(folder: Path) -> dict[str, str]:
    """The answers that an existing configuration gives, so that a second ``init`` agrees with it."""
    path = folder / CONFIG
    if not path.exists():
        return {}
    config = load(FlywheelConfig, path)
    found = {
        "flow": config.flow,
        "model": config.first_model,
        "lake": config.lake.uri or "local",
        "schedule": config.cadence.every,
    }
    return {name: value for name, value in found.items() if value}


def _ask(name: str, question: str, prompt: Prompt) -> str:
    problem = ""
    while True:
        try:
            return CHECKS[name](prompt(problem + question, getattr(Answers, name)).strip())
        except UsageError as error:
            problem = f"{error}\n"


def _flow(value: str) -> str:
    _check_key("flow", value)
    return value


def _model(value: str) -> str:
    folder = Path(value).expanduser()
    if folder.is_dir():
        return str(folder.resolve())
    if "/" in value and not is_repository(value):
        raise UsageError(
            f"There is no folder {value}; give one in Hugging Face layout, a Hugging Face id, a version, or 'tiny'."
        )
    return value


def _lake(value: str) -> str:
    if "://" in value and not value.startswith("s3://"):
        raise UsageError(f"The lake {value} is neither 'local', a folder, nor s3://bucket/prefix.")
    return value


def _consent(value: str) -> str:
    purposes = [part.strip() for part in value.split(",") if part.strip()]
    unknown = [part for part in purposes if part not in typing.get_args(Purpose)]
    if unknown and purposes != ["none"]:
        known = ", ".join(typing.get_args(Purpose))
        raise UsageError(f"'{unknown[0]}' is no purpose of consent; name some of {known}, or none.")
    return ",".join(dict.fromkeys(purposes)) or "none"


def _schedule(value: str) -> str:
    _check_key("cadence.every", value)
    return value


def _check_key(key: str, value: str) -> None:
    try:
        load(FlywheelConfig, overrides={key: value})
    except ConfigError as error:
        raise UsageError(str(error).removeprefix("defaults: ")) from error


CHECKS: Mapping[str, Callable[[str], str]] = {
    "flow": _flow,
    "model": _model,
    "lake": _lake,
    "consent": _consent,
    "schedule": _schedule,
}


def _context(model: str) -> int | None:
    """Tokens that prompt and answer may have together: what the model folder states, within reason; None for tiny."""
    if model == "tiny":
        return None
    config = Path(model) / "config.json"
    stated = json.loads(config.read_text()).get("max_position_embeddings") if config.exists() else None
    return min(stated or LONGEST_CONTEXT, LONGEST_CONTEXT)


def _put(path: Path, text: str, *, force: bool) -> Action:
    existed = path.exists()
    if existed and path.read_text() == text:
        return "unchanged"
    if existed and not force:
        return "kept"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return "replaced" if existed else "written"


def _ignore_secrets(path: Path) -> Action:
    """Keys and raw text in a repository would be a leak: the line is added also to a file of the user's own."""
    before = path.read_text() if path.exists() else None
    if before is None:
        path.write_text(f"{SECRETS}\n")
        return "written"
    if SECRETS in {line.strip() for line in before.splitlines()}:
        return "unchanged"
    path.write_text(before + ("" if before.endswith("\n") or not before else "\n") + f"{SECRETS}\n")
    return "extended"
