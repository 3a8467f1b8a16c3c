"""The command line as a user meets it: a process of its own, its exit code and what it prints."""

import json
import os
import pty
import subprocess
import sys

import pytest


def flywheel(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-c", "from flywheel.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
    )


def test_help_imports_nothing_heavy(tmp_path):
    code = (
        "import sys\nsys.argv=['flywheel','--help']\nfrom flywheel.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('ray','torch','vllm','pyarrow','mlflow','transformers','numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert "turn" in done.stdout
    assert done.stdout.strip().endswith("[]")


def test_a_typo_in_a_setting_is_a_usage_error(tmp_path):
    done = flywheel("config", "--set", "training.epoch=2", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip() == "error: defaults: unknown key 'training.epoch'; did you mean 'epochs'?"


def test_an_unknown_command_is_a_usage_error(tmp_path):
    assert flywheel("tun", cwd=tmp_path).returncode == 2


def test_status_of_nothing_as_json(tmp_path):
    done = flywheel("status", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["live"] is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["up"], "flywheel up --model"),
        (["rollback", "--reason", "x"], "no live model"),
        (["evaluate", "--model", "nothing", "--suite", "random"], "neither a registered version nor a model folder"),
        (["turn"], "no live model"),
        (["import", "missing.jsonl"], "missing.jsonl"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_exit_code_2(tmp_path, arguments, said):
    done = flywheel(*arguments, cwd=tmp_path)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 2


def test_down_without_anything_running(tmp_path):
    done = flywheel("down", cwd=tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, "nothing was running")


def test_a_bad_import_line_names_file_line_and_field(tmp_path):
    good = {
        "flow": "triage",
        "user": "a",
        "messages": [{"role": "user", "content": "x"}],
        "response": "y",
        "consent": [],
    }
    bad = {**good, "feedback": [{"kind": "applause"}]}
    (tmp_path / "logs.jsonl").write_text(json.dumps(good) + "\n" + json.dumps(bad) + "\n")
    done = flywheel("import", "logs.jsonl", cwd=tmp_path)
    assert done.returncode == 2
    assert "logs.jsonl, line 2, field 'feedback.0.kind'" in done.stderr
    assert flywheel("status", "--json", cwd=tmp_path).stdout.count('"captured": 0') == 1


def test_forget_asks_and_without_a_terminal_wants_to_be_told(tmp_path):
    done = flywheel("forget", "--user", "ann", cwd=tmp_path)
    assert done.returncode == 2
    assert "pass --yes or --dry-run" in done.stderr
    assert not (tmp_path / ".flywheel").exists()


def test_forget_shows_removes_and_says_when_it_did_already(tmp_path):
    line = {"flow": "triage", "user": "ann", "ts": "2026-01-01T00:00:00Z", "response": "y", "consent": ["training"],
            "messages": [{"role": "user", "content": "x"}]}  # fmt: skip
    (tmp_path / "logs.jsonl").write_text(json.dumps(line) + "\n" + json.dumps({**line, "user": "ben"}) + "\n")
    assert flywheel("import", "logs.jsonl", cwd=tmp_path).returncode == 0
    seen = flywheel("forget", "--user", "ann", "--dry-run", cwd=tmp_path)
    assert (seen.returncode, seen.stderr) == (0, "")
    assert "Would be removed" in seen.stdout
    done = json.loads(flywheel("forget", "--user", "ann", "--yes", "--json", cwd=tmp_path).stdout)
    assert done["removed"]["inferences"] == 1
    again = flywheel("forget", "--user", "ann", "--yes", cwd=tmp_path)
    assert again.returncode == 0
    assert "Nothing of this person is stored." in again.stdout
    assert "was erased already" in again.stdout
    assert "inferences" in again.stderr
    assert json.loads(flywheel("status", "--json", cwd=tmp_path).stdout)["funnel"]["captured"] == 1


def test_forget_takes_no_for_an_answer(tmp_path):
    controller, terminal = pty.openpty()
    os.write(controller, b"n\n")
    done = subprocess.run(
        [sys.executable, "-c", "from flywheel.cli import main; main()", "forget", "--user", "ann"],
        stdin=terminal, capture_output=True, text=True, timeout=60, cwd=tmp_path,
    )  # fmt: skip
    assert "Remove this for good?" in done.stdout
    assert not list((tmp_path / ".flywheel" / "lake").rglob("erasures"))
