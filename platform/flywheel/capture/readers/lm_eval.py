"""Tasks of lm-eval (EleutherAI's lm-evaluation-harness) -> evaluation cases.

Read are generation tasks with data on this machine: a YAML file with ``output_type: generate_until``, ``dataset_path:
json`` (with ``dataset_kwargs.data_files``) or the path of a JSON lines file, ``doc_to_text`` and ``doc_to_target`` as
Jinja templates or column names, and the metric ``exact_match``. Everything else is refused by name, because a case
that marks answers in another way than its task would have a wrong score under the task's name. The package itself is
not needed; it would bring ``datasets`` and some thirty others.

=====================================  =================================================================
plain ``exact_match``                  check ``exact`` (white space at both ends does not count)
with ``ignore_case``, ``lowercase``    check ``normalised`` (outer punctuation does not count either)
after a ``regex`` filter               check ``regex``: the pattern with the target in place of its group
=====================================  =================================================================
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from flywheel.capture.import_format import ImportedCase, RefusedError, as_object, validated
from flywheel.errors import UsageError
from flywheel.records import Check

_FUNCTION: Final = "!function"
_SPLITS: Final = ("test_split", "validation_split", "training_split")
_HARMLESS: Final = frozenset({"take_first", "remove_whitespace", "lowercase", "regex"})


class Task:
    """A task file that can be read.

    Args:
        path: of the YAML file; files that it includes lie beside it.

    Raises:
        UsageError: it is none, or asks for what is not supported; says which.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = _load(path)
        self.name = str(self.config.get("task") or path.stem)
        self._refuse()
        self._environment = SandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
        self._environment.filters["regex_replace"] = _regex_replace
        self._pattern, self._folds = self._filters()
        self._exact = self._metric()

    def data_file(self) -> Path:
        """Where the documents of the split that is evaluated lie.

        Raises:
            UsageError: not on this machine.
        """
        named = str(self.config["dataset_path"])
        files = (self.config.get("dataset_kwargs") or {}).get("data_files") if named == "json" else named
        if isinstance(files, Mapping):
            split = next((self.config[name] for name in _SPLITS if self.config.get(name)), "train")
            files = files.get(split)
        if isinstance(files, list):
            files = files[0] if len(files) == 1 else None
        found = [base / str(files) for base in (self.path.parent, Path()) if files and (base / str(files)).is_file()]
        if not found:
            raise UsageError(
                f"{self.path}: its data is not one JSON lines file on this machine (dataset_path: {named}); save the "
                "split as JSON lines, and write dataset_path: json with dataset_kwargs.data_files"
            )
        return found[0]

    def case(self, document: dict[str, Any], suite: str) -> ImportedCase:
        """One document as a case.

        Raises:
            RefusedError: the document lacks what the templates ask for.
        """
        prompt = self._render("description", document) + self._render("doc_to_text", document)
        target = self._render("doc_to_target", document)
        message = {"role": "user", "content": prompt}
        return validated(ImportedCase, {"messages": [message], "check": self._check(target), "suite": suite})

    def _check(self, target: str) -> dict[str, Any]:
        for pattern in self._exact.get("regexes_to_ignore") or ():
            target = re.sub(pattern, "", target)
        target = target.strip()
        if not target:
            raise RefusedError("doc_to_target", "gives an empty target, which any answer would match")
        if self._pattern is not None:
            flags = "(?i)" if self._folds else ""
            # The group takes all it can, so what follows the target must not go on as a word or a number.
            wanted = rf"(?:{re.escape(target)})(?!\w|[.,]\d)"
            return Check(kind="regex", expected=flags + wanted.join(self._pattern)).model_dump()
        return Check(kind="normalised" if self._folds else "exact", expected=target).model_dump()

    def _render(self, field: str, document: dict[str, Any]) -> str:
        template = self.config.get(field)
        if template is None:
            return ""
        if isinstance(template, str) and template in document:
            return str(document[template])
        if field != "description" and str(template).isidentifier():  # a column's name, and no text to be asked
            raise RefusedError(field, f"the document has no column '{template}'")
        try:
            return self._environment.from_string(str(template)).render(**document)
        except TemplateError as error:
            raise RefusedError(field, f"cannot be filled from this document: {error}") from error

    def _refuse(self) -> None:
        config = self.config
        reasons = {
            "it has no doc_to_text and doc_to_target": not (config.get("doc_to_text") and config.get("doc_to_target")),
            "it names no dataset_path": not config.get("dataset_path"),
            f"output_type {config.get('output_type')} compares probabilities, and cases mark answers; only "
            "generate_until can be imported": config.get("output_type", "generate_until") != "generate_until",
            "it calls Python code (!function), which is not run": _calls_python(config),
            "process_docs changes its documents in Python, which is not run": bool(config.get("process_docs")),
            "use_prompt takes its prompt from promptsource": bool(config.get("use_prompt")),
            f"it shows {config.get('num_fewshot')} examples before each question, which lm-eval draws at random; set "
            "num_fewshot: 0 in a copy": bool(config.get("num_fewshot")),
        }
        if said := next((text for text, holds in reasons.items() if holds), None):
            raise UsageError(f"{self.path}: {said}")

    def _metric(self) -> Mapping[str, Any]:
        metrics = self.config.get("metric_list") or [{"metric": "exact_match"}]
        exact = next((entry for entry in metrics if entry.get("metric") == "exact_match"), None)
        if exact is None:
            names = ", ".join(str(entry.get("metric")) for entry in metrics)
            raise UsageError(f"{self.path}: its metric is {names}; only exact_match has a check that means the same")
        self._folds = self._folds or bool(exact.get("ignore_case") or exact.get("ignore_punctuation"))
        return exact

    def _filters(self) -> tuple[tuple[str, str] | None, bool]:
        """Of the first pipeline: its pattern in two halves around its group, and whether it ignores case."""
        pipelines = self.config.get("filter_list") or []
        steps = pipelines[0].get("filter") or [] if pipelines else []
        names = [str(step.get("function")) for step in steps]
        patterns = [step for step in steps if step.get("function") == "regex"]
        unknown = [name for name in names if name not in _HARMLESS]
        if unknown or len(patterns) > 1 or any(step.get("group_select", 0) != 0 for step in patterns):
            raise UsageError(
                f"{self.path}: its first filter is {' > '.join(names)}; known are {', '.join(sorted(_HARMLESS))}, with "
                "one regex at the most that takes its first match"
            )
        pattern = str(patterns[0].get("regex_pattern", r"#### (\-?[0-9\.\,]+)")) if patterns else None
        return (None if pattern is None else self._halves(pattern)), "lowercase" in names

    def _halves(self, pattern: str) -> tuple[str, str]:
        """A pattern before and after its only group."""
        escaped = re.sub(r"\\.|\[(?:\\.|[^\]])*\]", lambda match: "_" * len(match.group()), pattern)
        opened, closed = escaped.find("("), escaped.rfind(")")
        if escaped.count("(") != 1 or opened > closed or escaped[opened + 1 : opened + 2] == "?":
            raise UsageError(f"{self.path}: the pattern {pattern!r} of its filter must have exactly one group")
        return pattern[:opened], pattern[closed + 1 :]


class TaskReader:
    """Reads the documents of a task, one a line, up to a limit; see ``import_run.Reader``."""

    def __init__(self, task: Task, *, suite: str) -> None:
        self.format: str | None = "lm-eval"
        self.ignored: Counter[str] = Counter()
        self._task, self._suite = task, suite

    def read(self, line: bytes) -> ImportedCase:
        """One document as a case.

        Raises:
            RefusedError: it is none.
        """
        return self._task.case(as_object(line), self._suite)


def _load(path: Path, *, depth: int = 0) -> dict[str, Any]:
    if path.suffix not in {".yaml", ".yml"} or not path.is_file() or depth > 8:
        raise UsageError(
            f"{path} is no task file; give the path of a task's YAML file, such as lm_eval/tasks/mine/mine.yaml "
            "(a name alone is not looked up, because lm-eval would fetch its data)"
        )
    try:
        config = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506  (a SafeLoader that knows one tag)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no YAML: {error}") from error
    if not isinstance(config, dict):
        raise UsageError(f"{path} is no task file: it must hold one mapping")
    includes = config.pop("include", None) or []
    base: dict[str, Any] = {}
    for name in [includes] if isinstance(includes, str) else includes:
        base |= _load(path.parent / name, depth=depth + 1)
    return base | config


class _Loader(yaml.SafeLoader):
    """Keeps ``!function`` as a text that can be refused."""


_Loader.add_constructor(_FUNCTION, lambda _loader, node: f"{_FUNCTION} {node.value}")


def _calls_python(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_calls_python, value.values()))
    if isinstance(value, list):
        return any(map(_calls_python, value))
    return isinstance(value, str) and value.startswith(_FUNCTION)


def _regex_replace(text: str, pattern: str, repl: str, count: int = 0) -> str:
    """The one filter that lm-eval adds to Jinja's own."""
    return re.sub(pattern, repl, text, count=count)
