"""`flywheel curate` and `flywheel filters` as a user meets them."""

import json
import subprocess
import sys

import yaml


def flywheel(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-c", "from flywheel.cli import main; main()", *arguments],
        capture_output=True, text=True, timeout=120, cwd=cwd,
    )  # fmt: skip


def test_a_filter_is_shown_changed_compared_and_adopted(tmp_path):
    (tmp_path / "flywheel.yaml").write_text("flow: triage  # ours\n")
    shown = flywheel("filters", "show", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    mine = yaml.safe_load(shown.stdout) | {"version": "mine-1"}
    mine["rules"][3]["at_least"] = 0.4
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(mine))
    done = flywheel("filters", "adopt", "mine.yaml", "--reason", "less noise", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["file"] == "filters/mine-1.yaml"
    text = (tmp_path / "flywheel.yaml").read_text()
    assert text == 'flow: triage  # ours\nquality:\n  filter_file: "filters/mine-1.yaml"\n'
    compared = flywheel("filters", "diff", "mine.yaml", cwd=tmp_path)
    assert "Both filters say the same" in compared.stdout


def test_what_is_not_there_is_one_sentence(tmp_path):
    done = flywheel("curate", "explain", "nothing", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: The flow 'triage' has no interaction 'nothing'")
