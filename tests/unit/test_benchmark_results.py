import importlib.util
import json
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "benchmarks" / "results").glob("*.json"))


@pytest.fixture(scope="module")
def results_file():
    spec = importlib.util.spec_from_file_location("results_file", ROOT / "benchmarks" / "results_file.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["results_file"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_result_has_the_one_form(results_file, path):
    results = results_file.Results.model_validate_json(path.read_text(encoding="utf-8"))
    assert results.name == path.stem
    assert results.rows
    assert all(target.met or target.why_not for target in results.targets)


def test_what_is_written_has_the_one_form(results_file, tmp_path):
    target = {"name": "t", "target": 0.5, "measured": 0.7, "interval": [0.6, 0.8], "peer": "other 0.4", "met": True}
    path = results_file.write("some-thing", 3, [{"a": 1}], [target], folder=tmp_path)
    written = json.loads(path.read_text())
    assert set(written) == {"name", "date", "commit", "ran_on", "versions", "seed", "rows", "targets"}
    assert set(written["ran_on"]) == {"cpu", "cores", "memory_gb", "gpu"}
    assert set(written["targets"][0]) == {"name", "target", "measured", "interval", "peer", "met", "why_not"}
    assert written["versions"]["flywheel"]
    results_file.Results.model_validate(written)


def test_a_miss_must_say_why(results_file, tmp_path):
    miss = {"name": "t", "target": 1, "measured": 0, "met": False}
    with pytest.raises(ValueError, match="why_not"):
        results_file.write("x", 0, [], [miss], folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("change", [{"name": "Has Spaces"}, {"extra": 1}, {"rows": "none"}, {"seed": None}])
def test_another_form_is_refused(results_file, tmp_path, change):
    written = json.loads(results_file.write("x", 0, [{}], [], folder=tmp_path).read_text())
    with pytest.raises(ValidationError):
        results_file.Results.model_validate({**written, **change})
