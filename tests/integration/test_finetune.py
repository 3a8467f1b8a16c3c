"""Real Ray Train and DeepSpeed: a run killed anywhere ends with the same bits as one left alone."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file, save_file

from flywheel.config import LoraConfig, TrainingConfig
from flywheel.errors import EnvironmentProblem, TrainingError
from flywheel.inference.adapters import check_adapter_folder
from flywheel.records import Example, Message
from flywheel.telemetry import apply_environment
from flywheel.testing import make_tiny_model
from flywheel.training.export import ADAPTER
from flywheel.training.finetune import finetune
from flywheel.training.result import TrainResult

pytestmark = [pytest.mark.ray, pytest.mark.slow]

STEPS = 20
KILL_AFTER = 7  # between the checkpoints of steps 5 and 10
COLOURS = {"sky": "blue", "grass": "green", "snow": "white", "coal": "black"}
CONFIG = TrainingConfig(
    cpus_per_worker=0.5, epochs=4, micro_batch_size=4, gradient_accumulation=4, learning_rate=5e-3, max_length=96,
    checkpoint_every=5, max_failures=1,
)  # fmt: skip


def toy_examples() -> list[Example]:
    """160 learnable questions: 5 steps of 32 an epoch, with one too long to use."""
    rows = [(f"{i}: colour of {thing}?", colour) for i in range(40) for thing, colour in COLOURS.items()]
    rows.append(("why " * 60, "because"))
    return [
        Example(
            example_id=f"e{n}",
            flow="toy",
            messages=[Message(role="user", content=question)],
            target=answer,
            inference_ids=[f"i{n}"],
            subject="s",
            origin="correction",
        )
        for n, (question, answer) in enumerate(rows)
    ]


def run(folder: Path, base: Path, config: TrainingConfig = CONFIG, on_progress=None) -> TrainResult:
    return finetune(
        config, base=base, examples=toy_examples(), out=folder / "out", storage=folder / "storage", run_name="toy",
        seed=11, on_progress=on_progress,
    )  # fmt: skip


def weights(result: TrainResult) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in load_file(result.out / "model.safetensors").items()}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    apply_environment()
    extensions = tmp_path_factory.mktemp("torch-extensions")  # empty: whatever is compiled shows up here
    os.environ["TORCH_EXTENSIONS_DIR"] = str(extensions)
    os.environ["RAY_AUTH_MODE"] = "disabled"
    import ray

    context = ray.init(
        address="local", num_cpus=2, log_to_driver=False, logging_level="ERROR", object_store_memory=100 * 2**20
    )
    yield context.address_info["gcs_address"], extensions
    ray.shutdown()


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    texts = [f"{row.messages[0].content} {row.target}" for row in toy_examples()[:-1]]
    return make_tiny_model(tmp_path_factory.mktemp("base"), texts=texts, hidden=128)


@pytest.fixture(scope="module")
def untouched(cluster, base, tmp_path_factory):
    """The run nobody disturbed."""
    folder, seen = tmp_path_factory.mktemp("untouched"), []
    return run(folder, base, on_progress=seen.append), folder, seen


def test_learns_and_leaves_a_servable_folder(untouched, base, cluster):
    result, folder, seen = untouched
    assert result.steps == len(result.losses) == STEPS
    assert result.last_loss < result.first_loss / 4
    assert result.dropped == {"e160": "too_long"}
    assert (result.examples, result.dropped_too_long) == (160, 1)
    assert seen[-1]["step"] == seen[-1]["steps"] == STEPS
    names = {path.name for path in result.out.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja", "training.json"} <= names
    assert not any(name.endswith((".bin", ".pt", ".pkl")) for name in names)
    assert list((folder / "storage").iterdir()) == []  # checkpoints (pickles) are gone
    assert weights(result).keys() == set(load_file(base / "model.safetensors"))
    assert list(cluster[1].iterdir()) == []  # no C++ was compiled
    assert run(folder, base) == result  # finished: not run again


def test_the_exported_model_answers(untouched):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out = untouched[0].out
    tokenizer, model = AutoTokenizer.from_pretrained(out), AutoModelForCausalLM.from_pretrained(out)
    question = [{"role": "user", "content": "3: colour of snow?"}]
    prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**prompt, max_new_tokens=12, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert tokenizer.decode(answer) == "white<|end|>"


def test_a_killed_rank_changes_no_bit(untouched, base, tmp_path):
    killed = []

    def kill_one(progress):
        if progress["step"] >= KILL_AFTER and not killed:
            killed.append(worker_pids()[-1])
            os.kill(killed[0], signal.SIGKILL)

    result = run(tmp_path, base, on_progress=kill_one)
    assert killed
    assert [loss.hex() for loss in result.losses] == [loss.hex() for loss in untouched[0].losses]
    assert weights(result) == weights(untouched[0])


def test_a_killed_driver_resumes_to_the_same_bits(untouched, base, cluster, tmp_path):
    script = textwrap.dedent("""
        import os, signal, sys
        from pathlib import Path
        sys.path.insert(0, sys.argv[1])
        import test_finetune as t
        t.apply_environment()
        import ray
        ray.init(address=sys.argv[2], log_to_driver=False, logging_level="ERROR")
        def die(progress):
            recorded = any(Path(sys.argv[3]).glob("storage/*/checkpoint_manager_snapshot.json"))
            if recorded and progress["step"] >= t.KILL_AFTER:
                os.kill(os.getpid(), signal.SIGKILL)
        t.run(Path(sys.argv[3]), Path(sys.argv[4]), on_progress=die)
    """)
    arguments = [str(Path(__file__).parent), cluster[0], str(tmp_path), str(base)]
    driver = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, timeout=400, check=False)
    assert driver.returncode == -signal.SIGKILL, driver.stderr.decode()[-2000:]
    assert not (tmp_path / "out").exists()
    lines = next((tmp_path / "storage").glob("*/flywheel/progress.jsonl"))
    before = lines.read_text().count("\n")
    seen = []
    result = run(tmp_path, base, on_progress=seen.append)
    assert before >= KILL_AFTER
    assert all(item["step"] > 5 for item in seen)  # went on from a checkpoint, not from the start
    assert [loss.hex() for loss in result.losses] == [loss.hex() for loss in untouched[0].losses]
    assert weights(result) == weights(untouched[0])


def test_zero_3_gathers_the_same_model(untouched, base, tmp_path):
    result = run(tmp_path, base, CONFIG.model_copy(update={"zero_stage": 3, "epochs": 1}))
    shapes = {name: array.shape for name, array in load_file(result.out / "model.safetensors").items()}
    assert shapes == {name: array.shape for name, array in load_file(base / "model.safetensors").items()}
    assert result.losses[0] == pytest.approx(untouched[0].losses[0], rel=1e-5)  # the same first batch
    assert json.loads((result.out / "config.json").read_text())["vocab_size"] == shapes["lm_head.weight"][0]


LORA = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"


def test_adapters_survive_a_kill_and_end_as_whole_weights(cluster, base, tmp_path):
    killed = []

    def kill_one(progress):
        if progress["step"] >= KILL_AFTER and not killed:
            killed.append(worker_pids()[-1])
            os.kill(killed[0], signal.SIGKILL)

    lora = LoraConfig(rank=4, target_modules=["q_proj", "v_proj"])
    result = run(tmp_path, base, CONFIG.model_copy(update={"lora": lora, "learning_rate": 1e-2}), on_progress=kill_one)
    before, after = load_file(base / "model.safetensors"), load_file(result.out / "model.safetensors")
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert killed
    assert result.last_loss < result.first_loss
    assert before.keys() == after.keys()
    assert changed == {name for name in before if "q_proj" in name or "v_proj" in name}
    check_adapter_folder(result.out / ADAPTER, max_rank=4)
    kept = json.loads((result.out / ADAPTER / "adapter_config.json").read_text())
    assert (kept["base_model_name_or_path"], kept["target_modules"]) == (None, ["q_proj", "v_proj"])
    down, up = (load_file(result.out / ADAPTER / "adapter_model.safetensors")[LORA.format(side)] for side in "AB")
    name = "model.layers.0.self_attn.q_proj.weight"
    np.testing.assert_allclose(before[name] + up @ down * lora.alpha / lora.rank, after[name], atol=1e-6)


def test_a_loss_that_is_no_number_ends_the_run_at_once(cluster, base, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(base, broken)
    tensors = load_file(base / "model.safetensors")
    tensors["lm_head.weight"] = np.full_like(tensors["lm_head.weight"], np.nan)
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TrainingError, match=r"loss became nan at step 1; lower training\.learning_rate"):
        run(tmp_path, broken)
    assert not (tmp_path / "out").exists()


def test_errors_say_what_to_do(cluster, base, tmp_path):
    with pytest.raises(EnvironmentProblem, match=r"lower training\.num_workers"):
        run(tmp_path, base, CONFIG.model_copy(update={"num_workers": 64}))
    with pytest.raises(TrainingError, match=r"raise training\.max_length"):
        run(tmp_path, base, CONFIG.model_copy(update={"max_length": 4}))


def worker_pids() -> list[int]:
    """Training workers of the cluster this test started; other people's are no descendants of ours."""
    children = psutil.Process().children(recursive=True)
    return [child.pid for child in children if "RayTrainWorker" in " ".join(child.cmdline())]


def test_bfloat16_learns_as_well(cluster, base, untouched, tmp_path):
    """Half the memory and, where the processor multiplies bfloat16, less than half the time."""
    result = run(tmp_path, base, CONFIG.model_copy(update={"dtype": "bfloat16"}))
    assert result.steps == STEPS
    assert result.first_loss == pytest.approx(untouched[0].first_loss, rel=0.02)
    assert result.last_loss < result.first_loss / 4
    assert {array.dtype for array in load_file(result.out / "model.safetensors").values()} == {np.dtype("float32")}
