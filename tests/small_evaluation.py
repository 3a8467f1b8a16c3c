"""A small evaluation sweep for tests: model folders without a model, two suites, and answers that need no engine."""

import contextlib
import json
from pathlib import Path

from flywheel.config import EvaluationGrid, FlywheelConfig, load
from flywheel.evaluation.cases import store_cases
from flywheel.inference.generate import Completion
from flywheel.lake.tables import open_lake
from flywheel.records import Check, EvalCase, Message
from flywheel.workflow.evaluations.answering import Answering, FirstUse

SUITES = ("golden", "random")
CASES_A_SUITE = 12


def model_folder(folder: Path, weights: str) -> Path:
    """What passes for a servable folder; ``weights`` are its whole content."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "model.safetensors").write_text(weights)
    return folder


def case(n: int, suite: str = "golden", **changes) -> EvalCase:
    fields = {
        "case_id": f"{suite}-{n:03d}", "flow": "triage", "suite": suite, "origin": "golden", "slice": f"i{n % 2}",
        "slices": {"language": "de" if n % 3 else "en"}, "messages": [Message(role="user", content=f"{suite} {n}")],
        "check": Check(kind="exact", expected=f"{n}"),
    }  # fmt: skip
    return EvalCase(**{**fields, **changes})


def settings(home: Path, **overrides) -> FlywheelConfig:
    few = {"evaluation.resamples": 200, "evaluation.price_per_1k_completion_tokens": 2.0}
    return load(FlywheelConfig, overrides={"home": str(home), **few, **overrides})


def prepare(home: Path, cases: int = CASES_A_SUITE, **overrides) -> FlywheelConfig:
    config = settings(home, **overrides)
    store_cases(open_lake(config), config.flow, [case(n, suite) for suite in SUITES for n in range(cases)])
    return config


def grid(*models, **changes) -> EvaluationGrid:
    params = {"temperature": [0.0, 0.5], "seed": [1]}
    return EvaluationGrid(**{"models": [str(m) for m in models], "suites": list(SUITES), "params": params, **changes})


def answer(version: str, text: str, temperature: float) -> Completion:
    """Wrong for one question in ``len(version)``-dependent many: the same every time, another for every model."""
    number = int(text.rsplit(maxsplit=1)[-1])
    wrong = (number + sum(map(ord, version)) + int(10 * temperature)) % 4 == 0
    return Completion("no" if wrong else str(number), "stop", 3, 2, 10.0 + number)


class FakeAnswers(Answering):
    """In place of engines. Notes what started and what was asked, also in a file; ``BLOCK`` cases a commit."""

    BLOCK = 5

    def __init__(self, lake, config, *, log: Path | None = None, broken=(), before=lambda: None):
        super().__init__(lake, config)
        self.asked, self.started, self._log = [], [], log
        self._broken, self._before = broken, before

    @contextlib.contextmanager
    def model(self, model):
        def start():
            self.started.append(model.version)
            if model.name in self._broken:
                raise self._broken[model.name]
            return self._generate_for(model)

        yield FirstUse(start)

    def block(self, model):
        return self.BLOCK

    def _generate_for(self, model):
        weights = (Path(model.folder) / "model.safetensors").read_text() if model.folder else model.version

        def generate(version, conversations, *, max_tokens, temperature=0.0, seed=None, on_progress=None, **_):
            self._before()
            texts = [messages[-1].content for messages in conversations]
            self.asked += [(version, temperature, text) for text in texts]
            if self._log:
                with self._log.open("a") as file:
                    file.writelines(json.dumps([weights, temperature, text]) + "\n" for text in texts)
            if on_progress:
                on_progress(len(texts))
            return [answer(weights, text, temperature) for text in texts]

        return generate
