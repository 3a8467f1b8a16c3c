import json

import pytest

from flywheel.errors import ModelError
from flywheel.inference.models import check_model_folder


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "chat_template.jinja").write_text("x")
    return tmp_path


def test_a_whole_folder_passes(folder):
    check_model_folder(folder)


def test_template_inside_the_tokenizer_config_counts(folder):
    (folder / "chat_template.jinja").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "x"}))
    check_model_folder(folder)


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        ("config.json", "config.json"),
        ("tokenizer.json", "tokenizer"),
        ("model.safetensors", "safetensors"),
        ("chat_template.jinja", "chat template"),
    ],
)
def test_what_is_missing_is_named(folder, missing, says):
    (folder / missing).unlink()
    with pytest.raises(ModelError, match=says):
        check_model_folder(folder)


def test_pickles_only_are_refused(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelError, match="pickles"):
        check_model_folder(folder)


def test_no_folder(tmp_path):
    with pytest.raises(ModelError, match="not a folder"):
        check_model_folder(tmp_path / "nowhere")
