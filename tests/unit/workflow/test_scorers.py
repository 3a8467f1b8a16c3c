"""Scorers: which ones there are, what each asks, and what to do to have the others."""

import sys

import pytest

from flywheel.config import FlywheelConfig
from flywheel.errors import EnvironmentProblem, ModelError, UsageError
from flywheel.evaluation import sandbox
from flywheel.evaluation.cases import store_cases
from flywheel.evaluation.checks import Item, Opinion, mark_all, validate
from flywheel.inference.encoder import check_encoder, load_encoder
from flywheel.judging.attacks import CONSTANTS
from flywheel.lake.manifests import Manifest, write_manifest
from flywheel.lake.tables import open_lake
from flywheel.records import Check, EvalCase, Message
from flywheel.workflow.evaluations import scorers as made
from flywheel.workflow.evaluations.scorers import make_scorers

ASKED = [Message(role="user", content="Where is my parcel?")]


@pytest.fixture
def config(tmp_path):
    return FlywheelConfig(home=tmp_path)


def with_(config, **changes):
    return config.model_copy(update={"evaluation": config.evaluation.model_copy(update=changes)})


def marks(scorers, check, *answers):
    return mark_all([Item(ASKED, check, answer) for answer in answers], scorers)


def test_what_is_not_there_says_how_to_have_it(config, monkeypatch):
    monkeypatch.setitem(sys.modules, "wordllama", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    scorers = make_scorers(open_lake(config), config)
    assert not scorers.by_kind
    for kind, words in {"similarity": r"flywheel\[similarity\]", "reward": "evaluation.reward_model",
                        "judge": "a judge", "code": "evaluation.allow_code"}.items():  # fmt: skip
        with pytest.raises(UsageError, match=words):
            validate(Check(kind=kind, expected="a = 1", threshold=0.5), scorers)


def test_an_encoder_is_never_downloaded(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    with pytest.raises(ModelError, match="not downloaded"):
        check_encoder("sentence-transformers/all-MiniLM-L6-v2")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EnvironmentProblem, match="similarity"):
        load_encoder("wordllama")


def test_meaning_by_the_packaged_encoder(config):
    pytest.importorskip("wordllama")
    scorers = make_scorers(open_lake(config), config)
    check = Check(kind="similarity", expected="The package arrives tomorrow.", threshold=0.6)
    same, other, empty = marks(scorers, check, "Your parcel is delivered tomorrow", "I like jazz music", "")
    assert same.passed
    assert not other.passed
    assert other.detail.startswith("similarity 0.")
    assert (empty.passed, empty.score) == (False, 0.0)
    assert scorers.versions["similarity"].startswith("wordllama ")


def test_reward_is_the_mean_margin_over_folds(config, monkeypatch):
    lake = open_lake(config)
    assert "no reward model" in make_scorers(lake, with_(config, reward_model="reward-x")).absent["reward"]
    folds = [{"prefix": "rewards/a"}, {"prefix": "rewards/b"}]
    write_manifest(lake, Manifest(
        kind="reward", id="reward-1", flow=config.flow, code_version="0", config_hash="0", seed=0,
        data={"folds": folds},
    ))  # fmt: skip
    lake.store.put("rewards/a/x", b"1")
    lake.store.put("rewards/b/x", b"2")
    seen = []

    class Model:
        """Rewards an answer by its length, times what the fold's folder says."""

        def __init__(self, folder, max_length):
            self.weight = int((folder / "x").read_bytes())

        def __call__(self, choices):
            seen.append(choices)
            return [[self.weight * len(answer) for answer in choice.answers] for choice in choices]

    monkeypatch.setattr(made, "RewardModel", Model)
    scorers = make_scorers(lake, with_(config, reward_model="reward-1"))
    assert not seen, "nothing is loaded before it is asked"
    reference = Check(kind="reward", expected="four")
    assert [mark.passed for mark in marks(scorers, reference, "five!", "one")] == [True, False]
    assert len(seen) == 2, "one call a fold"
    alone = Check(kind="reward", expected="", threshold=7.5)
    assert [mark.passed for mark in marks(scorers, alone, "12345", "1234")] == [True, False]
    assert scorers.versions["reward"] == "reward-1"


def test_a_constant_answer_and_a_useless_reward_model_win_nothing(config, monkeypatch):
    lake = open_lake(config)
    report = {"usable": False, "reason": "no better than the baseline", "temperature": 2.0}
    for name, usable in (("reward-bad", False), ("reward-good", True)):
        write_manifest(lake, Manifest(
            kind="reward", id=name, flow=config.flow, code_version="0", config_hash="0", seed=0,
            data={"folds": [{"prefix": "rewards/a"}], "report": {**report, "usable": usable}},
        ))  # fmt: skip
    lake.store.put("rewards/a/x", b"1")
    monkeypatch.setattr(made, "RewardModel", lambda *_: lambda some: [[*map(len, one.answers)] for one in some])
    assert "no better" in make_scorers(lake, with_(config, reward_model="reward-bad")).absent["reward"]
    scorers = make_scorers(lake, with_(config, reward_model="reward-good"))
    words = [word * 3 for word in ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "kappa", "lambda")]
    asked = [(Message(role="user", content=f"tell me about {word}"),) for word in words]
    checks = [Check(kind="reward", expected=word[:4]) for word in words]
    told = [(one, check, f"{word} {word[::-1]}") for one, check, word in zip(asked, checks, words, strict=True)]
    own = mark_all([Item(*one) for one in told], scorers)
    assert all(mark.passed for mark in own)
    pleasant = "a long and pleasant text that says nothing"
    same = mark_all([Item(one, check, pleasant) for one, check in zip(asked, checks, strict=True)], scorers)
    assert not any(mark.passed for mark in same)
    assert "cannot win" in same[0].detail
    reward = scorers.by_kind["reward"]([Item(asked[0], Check(kind="reward", expected="short"), "1234567")])[0].score
    assert reward == pytest.approx((7 - 5) / 2)  # over the temperature


def test_a_reward_model_that_likes_one_text_is_refused_by_the_trial(config, monkeypatch):
    """The guard that makes such a text win nothing in an evaluation must not hide it from the trial."""
    lake = open_lake(config)
    write_manifest(lake, Manifest(
        kind="reward", id="reward-1", flow=config.flow, code_version="0", config_hash="0", seed=0,
        data={"folds": [{"prefix": "rewards/a"}]},
    ))  # fmt: skip
    lake.store.put("rewards/a/x", b"1")
    liked = CONSTANTS["stalling"]
    monkeypatch.setattr(
        made, "RewardModel", lambda *_: lambda some: [[5.0 * (text == liked) for text in one.answers] for one in some]
    )
    words = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "kappa", "lambda", "omega", "sigma")
    store_cases(lake, config.flow, [
        EvalCase(
            case_id=word, flow=config.flow, suite="random", origin="import", check=Check(kind="reward", expected=word),
            messages=[Message(role="user", content=f"tell me about {word}")],
        )
        for word in words
    ])  # fmt: skip
    with pytest.raises(UsageError, match=r"reward-1.*passes .* so nothing it says counts"):
        made.check_markable(lake, with_(config, reward_model="reward-1"))


def test_a_judge_is_asked_with_the_criterion(config):
    asked = []

    def judge(items):
        asked.extend((item.messages[0].content, item.answer, item.check.expected) for item in items)
        return [Opinion(None, "the judge abstained") if item.answer == "?" else Opinion(0.9) for item in items]

    scorers = make_scorers(open_lake(config), config, judge=judge, judge_version="judge-7")
    good, open_ = marks(scorers, Check(kind="judge", expected="is polite", threshold=0.8), "Please wait.", "?")
    assert good.passed
    assert (open_.passed, open_.detail) == (False, "the judge abstained")
    assert sorted(asked) == [(ASKED[0].content, "?", "is polite"), (ASKED[0].content, "Please wait.", "is polite")]
    assert scorers.versions["judge"] == "judge-7"


def test_code_runs_only_where_it_is_allowed(config, monkeypatch):
    lake = open_lake(config)
    check = Check(kind="code", expected="assert double(2) == 4")
    free = make_scorers(lake, with_(config, allow_code=True, allow_unconfined_code=True))
    right, wrong = marks(free, check, "```python\ndef double(x): return 2 * x\n```", "def double(x): return x")
    assert right.passed
    assert (wrong.passed, wrong.detail) == (False, "AssertionError:")
    assert free.versions["code"] == "unconfined"
    assert "code" in make_scorers(lake, with_(config, allow_unconfined_code=True)).absent, "one word is not enough"

    def nowhere():
        raise EnvironmentProblem("no sandbox here")

    monkeypatch.setattr(sandbox, "require", nowhere)
    assert make_scorers(lake, with_(config, allow_code=True)).absent["code"] == "no sandbox here"
