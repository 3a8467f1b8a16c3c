"""Loss, learning rate, DeepSpeed's settings, fingerprints, folders, progress, failures."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch.nn import functional

from flywheel.config import TrainingConfig
from flywheel.errors import ModelError, TrainingError
from flywheel.inference.models import TRAINING_REPORT
from flywheel.records import Example, Message
from flywheel.training.checkpoint import reseed
from flywheel.training.deepspeed import LARGEST_BUCKET, SMALLEST_BUCKET, deepspeed_config
from flywheel.training.export import count_parameters, finished, publish
from flywheel.training.failures import agreed_failure, explain, first_cause, give_up
from flywheel.training.finetune import SNAPSHOT, drop_torn_snapshot, finetune
from flywheel.training.objectives.sft import step_scale, weighted_loss_sum
from flywheel.training.progress import Progress, Watcher, latest
from flywheel.training.result import EXPORT_FILE, Job, TrainResult, fingerprint
from flywheel.training.schedule import learning_rate

DEFAULT = TrainingConfig()
EXAMPLE = Example(
    example_id="e",
    flow="f",
    messages=[Message(role="user", content="q")],
    target="a",
    inference_ids=["i"],
    subject="s",
    origin="liked",
)


def test_loss_is_the_weighted_sum_over_next_tokens():
    torch.manual_seed(0)
    logits, ids = torch.randn(2, 5, 7), torch.randint(0, 7, (2, 5))
    weights = torch.tensor([[9.0, 0, 1, 0.5, 0], [9.0, 0, 0, 0, 2]])
    expected = sum(
        float(weights[b, t]) * functional.cross_entropy(logits[b, t - 1], ids[b, t])
        for b in (0, 1)
        for t in range(1, 5)
    )
    assert weighted_loss_sum(logits, ids, weights).item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_filler_batch_has_loss_zero_and_still_a_gradient():
    logits = torch.randn(1, 3, 4, requires_grad=True)
    loss = weighted_loss_sum(logits, torch.zeros(1, 3, dtype=torch.long), torch.zeros(1, 3))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert logits.grad.abs().sum() == 0


def test_scale_undoes_what_deepspeed_divides_by():
    parts, total = [3.0, 5.0, 1.0, 2.0], 8.0  # two ranks, two micro-batches each
    applied = sum(part * step_scale(total, 2, 2) / 2 for part in parts) / 2
    assert applied == pytest.approx(sum(parts) / total)


def test_learning_rate_rises_then_falls_to_zero():
    rates = [learning_rate(i, steps=100, peak=2.0, warmup_ratio=0.1) for i in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == rates[9] == rates[10] == 2.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.01
    assert learning_rate(0, steps=1, peak=2.0, warmup_ratio=0.0) == 2.0


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_deepspeed_settings(stage):
    config = TrainingConfig(zero_stage=stage, micro_batch_size=3, gradient_accumulation=2, dtype="bfloat16")
    settings = deepspeed_config(config, 1_800_000)
    assert settings["zero_optimization"]["stage"] == stage
    assert settings["train_micro_batch_size_per_gpu"] == 3
    assert settings["bf16"] == {"enabled": True}
    assert "optimizer" not in settings  # DeepSpeed would compile its own
    if stage:
        assert settings["zero_optimization"]["reduce_bucket_size"] == 1_800_000


def test_buckets_stay_in_bounds():
    sizes = [deepspeed_config(TrainingConfig(), n)["zero_optimization"]["reduce_bucket_size"] for n in (10, 10**11)]
    assert sizes == [SMALLEST_BUCKET, LARGEST_BUCKET]


def test_random_numbers_are_a_function_of_seed_step_and_rank():
    def draw(*key):
        reseed(*key)
        return torch.rand(3).tolist()

    assert draw(1, 2, 3) == draw(1, 2, 3)
    assert len({tuple(draw(*key)) for key in [(1, 2, 3), (1, 3, 3), (1, 2, 4), (2, 2, 3)]}) == 4


@pytest.fixture
def base(tmp_path):
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text('{"dtype": "bfloat16"}')
    for name in (
        "tokenizer.json",
        "chat_template.jinja",
        "LICENSE",
        "model.safetensors.index.json",
        "pytorch_model.bin",
    ):
        (folder / name).write_text("{}")
    save_file({"a": np.zeros((3, 4), np.float32), "b": np.zeros(5, np.float32)}, folder / "model.safetensors")
    return folder


def test_parameters_are_counted_from_headers(base):
    assert count_parameters(base) == 17
    (base / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        count_parameters(base)


def test_fingerprint_follows_what_changes_the_weights_only(base):
    def mark(config=DEFAULT, examples=(EXAMPLE,), seed=0):
        return fingerprint(config, base, list(examples), seed)

    first = mark()
    assert first == mark(config=TrainingConfig(max_failures=9, checkpoint_every=1, cpus_per_worker=0.5))
    others = [mark(seed=1), mark(config=TrainingConfig(learning_rate=1)), mark(examples=[EXAMPLE, EXAMPLE])]
    (base / "model.safetensors").write_bytes(b"other weights")
    assert len({first, *others, mark()}) == 5


def result(out, mark="f1"):
    return TrainResult(
        out=out, steps=1, epochs=1, tokens=3, examples=1, dropped_too_long=0, first_loss=1.0, last_loss=0.5,
        losses=[1.0, 0.5], seconds=2.0, fingerprint=mark,
    )  # fmt: skip


def test_a_published_folder_is_complete_and_found_again(tmp_path, base):
    export = tmp_path / "export"
    export.mkdir()
    (export / "config.json").write_text('{"dtype": "float32", "new": 1}')
    (export / "model.safetensors").write_bytes(b"weights")
    (export / EXPORT_FILE).write_text("{}")
    out = tmp_path / "models" / "out"
    assert finished(out, "f1") is None
    publish(export, base, result(out))
    assert {path.name for path in out.iterdir()} == {
        "config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja", "LICENSE", TRAINING_REPORT,
    }  # fmt: skip
    assert json.loads((out / "config.json").read_text()) == {"dtype": "bfloat16", "new": 1}
    assert finished(out, "f1") == result(out)
    with pytest.raises(TrainingError, match="another base"):
        finished(out, "f2")
    with pytest.raises(TrainingError, match="appeared"):
        publish(export, base, result(out))
    assert [path.name for path in out.parent.iterdir()] == ["out"]  # nothing half-made is left behind


def test_a_folder_of_someone_else_is_never_overwritten(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(TrainingError, match="not the result of a training run"):
        finished(tmp_path, "f1")


def test_no_examples_is_an_error_before_anything_starts(tmp_path, base):
    with pytest.raises(TrainingError, match="no examples"):
        finetune(
            TrainingConfig(), base=base, examples=[], out=tmp_path / "o", storage=tmp_path / "s", run_name="r", seed=0
        )
    assert not (tmp_path / "s").exists()


def test_progress_reaches_the_callback_and_ignores_torn_lines(tmp_path):
    path = tmp_path / "progress.jsonl"
    assert latest(path) is None
    seen = []
    with Watcher(path, seen.append, interval_s=0.01):
        progress = Progress(path, steps=10)
        progress.add(1, 0, 2.0, tokens=50, seconds=0.5)
    assert seen == [{"step": 1, "steps": 10, "epoch": 1, "loss": 2.0, "tokens_per_s": 100.0, "eta_s": 4.5}]
    with path.open("a") as file:
        file.write('{"step": 2, "st')
    assert latest(path) == seen[0]
    again = []
    with Watcher(path, again.append, interval_s=0.01):
        pass
    assert again == []  # what an earlier call reported is not news


def test_the_reason_is_the_rank_that_failed_first(tmp_path):
    failures = {
        0: RuntimeError("Traceback\nRuntimeError: [gloo/tcp/pair.cc] Connection closed by peer [127.0.0.1]"),
        1: RuntimeError("Traceback\n  File x\nValueError: the moon is full.\n"),
    }
    assert first_cause(failures)[0] == 1
    error = RuntimeError("Training failed")
    error.worker_failures = failures
    sentence = explain(error, tmp_path / "run" / "error.log")
    assert "rank 1" in sentence
    assert "ValueError: the moon is full;" in sentence
    assert str(tmp_path / "run" / "error.log") in sentence
    assert "Training failed" in (tmp_path / "run" / "error.log").read_text()


def test_a_loss_that_is_no_number_names_the_step_and_what_to_change(tmp_path, base):
    job = Job(config=TrainingConfig(), base=base, folder=tmp_path, seed=0, pad_id=0, parameters=1)
    assert agreed_failure(job) is None
    give_up(job, "the loss became nan at step 4")
    reason = agreed_failure(job)
    assert reason is not None
    assert "nan at step 4" in reason
    assert "learning_rate" in reason


@pytest.mark.parametrize(("text", "stays"), [("", False), ('{"checkpoints": [', False), ("[]", False), ("{}", True)])
def test_a_half_written_list_of_checkpoints_is_removed_and_a_whole_one_stays(tmp_path, text, stays):
    drop_torn_snapshot(tmp_path)
    (tmp_path / SNAPSHOT).write_text(text)
    drop_torn_snapshot(tmp_path)
    assert (tmp_path / SNAPSHOT).exists() == stays


def test_ray_train_still_calls_that_list_so():
    from ray.train.v2._internal.constants import CHECKPOINT_MANAGER_SNAPSHOT_FILENAME

    assert CHECKPOINT_MANAGER_SNAPSHOT_FILENAME == SNAPSHOT
