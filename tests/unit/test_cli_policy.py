"""`flywheel policy evaluate` as a user meets it: exit codes, what is said, and nothing heavy for its help."""

import json
import subprocess
import sys


def flywheel(*arguments, cwd, after="main()"):
    return subprocess.run(
        [sys.executable, "-c", f"from flywheel.cli import main; {after}", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
    )


def test_no_question_is_a_usage_error_that_says_how_to_ask(tmp_path):
    done = flywheel("policy", "evaluate", cwd=tmp_path)
    assert done.returncode == 2
    assert "--of choices" in done.stderr
    wrong = flywheel("policy", "evaluate", "--of", "choices", "--ask", "estimater=ips", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "did you mean 'estimator'" in wrong.stderr


def test_help_imports_nothing_heavy(tmp_path):
    heavy = "[m for m in ('ray','torch','pyarrow','numpy','scipy') if m in sys.modules]"
    after = f"\nimport sys\ntry:\n    main()\nexcept SystemExit:\n    print({heavy})"
    done = flywheel("policy", "evaluate", "--help", cwd=tmp_path, after=after)
    assert "Exit code 3" in done.stdout
    assert done.stdout.strip().endswith("[]")


def test_logs_that_say_too_little_are_refused_with_a_reason_and_exit_code_3(tmp_path):
    done = flywheel("policy", "evaluate", "--of", "choices", "--set", f"home={tmp_path}", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert "Refused" in done.stdout
    assert "no row is left to evaluate on" in done.stdout
    told = flywheel("policy", "evaluate", "--of", "choices", "--set", f"home={tmp_path}", "--json", cwd=tmp_path)
    assert told.returncode == 3
    assert {one["refused"][0]["code"] for one in json.loads(told.stdout)["estimates"]} == {"no_rows"}
