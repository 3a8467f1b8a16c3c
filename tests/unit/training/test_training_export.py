"""Export of weights, in a process group of one."""

import pytest
import torch
from safetensors.torch import load_file
from torch import distributed

from flywheel.config import TrainingConfig
from flywheel.testing import make_tiny_model
from flywheel.training.export import export
from flywheel.training.failures import agreed_failure
from flywheel.training.result import EXPORT_FILE, Export, Job


@pytest.fixture
def alone(tmp_path):
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.fixture
def job(tmp_path):
    base = make_tiny_model(tmp_path / "base", hidden=16, layers=1)
    folder = tmp_path / "run"
    folder.mkdir()
    return Job(config=TrainingConfig(), base=base, folder=folder, seed=0, pad_id=0, parameters=1)


def model_of(job):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(job.base)


def test_weights_arrive_unchanged_and_complete(alone, job):
    export(model_of(job), job, Export(losses=[1.0], tokens=3), is_writer=True)
    before, after = load_file(job.base / "model.safetensors"), load_file(job.export / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert Export.model_validate_json((job.export / EXPORT_FILE).read_text()).losses == [1.0]
    assert [path.name for path in job.folder.iterdir()] == ["export"]


def test_weights_that_are_no_numbers_are_never_exported(alone, job):
    model = model_of(job)
    with torch.no_grad():
        model.lm_head.weight[0, 0] = float("inf")
    export(model, job, Export(losses=[1.0], tokens=3), is_writer=True)
    assert not job.export.exists()
    assert "lm_head.weight" in (agreed_failure(job) or "")


def test_only_the_writer_writes(alone, job):
    export(model_of(job), job, Export(losses=[1.0], tokens=3), is_writer=False)
    assert list(job.folder.iterdir()) == []
