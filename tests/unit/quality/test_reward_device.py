"""Reward models on GPUs, as far as a machine without one can tell: who gets one, what fits, and bfloat16 products."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from flywheel.config import RewardModelConfig
from flywheel.errors import ModelError
from flywheel.quality import packing, score
from flywheel.quality.device import check_device, device, mixed
from flywheel.quality.packing import answer_scores, pack
from flywheel.quality.reward_encoder import refuse_crowded
from flywheel.quality.reward_fit import Choice, Scorer, fit, load
from flywheel.testing import make_tiny_model


def given(monkeypatch, *, cuda=True, ray_is_there=True, ids=()):
    import ray

    context = SimpleNamespace(get_accelerator_ids=lambda: {"GPU": list(ids)})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(ray, "is_initialized", lambda: ray_is_there)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)


def test_only_who_was_given_a_gpu_uses_it(monkeypatch):
    given(monkeypatch, ids=["0"])
    assert device() == "cuda"
    for nothing in ({"ids": []}, {"ids": ["0"], "cuda": False}, {"ids": ["0"], "ray_is_there": False}):
        given(monkeypatch, **nothing)
        assert device() == "cpu"


def test_what_does_not_fit_is_refused_with_numbers():
    refuse_crowded(1_000_000_000, 24e9)
    with pytest.raises(ModelError, match=r"7\.0 billion parameters takes 112 GB of GPU memory .* there are 24"):
        refuse_crowded(7_000_000_000, 24e9)


def test_a_gpu_that_is_asked_for_and_not_there_is_an_error():
    with pytest.raises(ModelError, match="install torch with CUDA"):
        fit([], base=Path("any"), out=Path("any"), config=RewardModelConfig(num_gpus=1), seed=0)
    check_device(RewardModelConfig())


def test_mixed_precision_changes_scores_by_rounding_only(tmp_path, monkeypatch):
    model, _ = load(make_tiny_model(tmp_path / "base", layers=1, hidden=32))
    model.eval()
    rows = [
        pack(list(range(5, 40)), [[7, 8, 9], [9, 8, 7, 6, 5, 4]], eos=1, max_length=64),
        pack([5], [[6], [7, 7]], eos=1, max_length=64),
    ]
    with torch.inference_mode():
        exact = torch.cat(answer_scores(model, rows, pad=0))
        monkeypatch.setattr(packing, "mixed", lambda _: torch.autocast("cpu", dtype=torch.bfloat16))
        rounded = torch.cat(answer_scores(model, rows, pad=0))
    assert rounded.dtype == torch.float32
    assert not torch.equal(exact, rounded)
    assert rounded.tolist() == pytest.approx(exact.tolist(), abs=0.05 * float(exact.std()) + 0.02)


def test_it_learns_in_mixed_precision(tmp_path, monkeypatch):
    base = make_tiny_model(tmp_path / "base", layers=1, hidden=32)
    monkeypatch.setattr(packing, "mixed", lambda _: torch.autocast("cpu", dtype=torch.bfloat16))
    choices = [Choice([{"role": "user", "content": f"question {n}"}], ["yes", "no"]) for n in range(40)]
    (tmp_path / "out").mkdir()
    config = RewardModelConfig(epochs=3, learning_rate=5e-3)
    done = fit(choices, base=base, out=tmp_path / "out", config=config, seed=0)
    assert done.last_loss < done.first_loss
    assert all(better > worse for better, worse in Scorer(tmp_path / "out", 64)(choices))
    assert next(load(tmp_path / "out")[0].parameters()).dtype == torch.float32


def test_on_a_cpu_nothing_is_rounded():
    product = torch.ones(2, 2)
    with mixed("cpu"):
        assert (product @ product).dtype == torch.float32


def test_an_actor_on_a_gpu_holds_one_model(monkeypatch):
    fetched = []
    monkeypatch.setattr(score, "Scorer", lambda folder, _: folder)
    monkeypatch.setattr(score, "device", lambda: "cuda")
    store = SimpleNamespace(download_folder=lambda prefix, _: fetched.append(prefix))
    actor = score.RewardActor(store, ["a", "b"], 64)
    for fold in (0, 0, 1, 1):
        actor._model(fold)
    assert fetched == ["a", "b"]
    assert len(actor._models) == 1
