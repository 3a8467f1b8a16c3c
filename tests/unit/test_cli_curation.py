"""`flywheel curate` and `flywheel filters` as a user meets them."""

import json

import pytest
import yaml
from typer.testing import CliRunner

from flywheel.cli.main import app
from flywheel.errors import NotFoundInLakeError


@pytest.fixture
def flywheel(tmp_path, monkeypatch):
    """Run a command in an empty folder; what it prints. Failures are the exceptions that `main` makes a sentence of."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")  # tables of a narrow terminal fold what is looked for
    return lambda *arguments: CliRunner().invoke(app, list(arguments), catch_exceptions=False).stdout


def test_a_filter_is_shown_changed_compared_and_adopted(flywheel, tmp_path):
    (tmp_path / "flywheel.yaml").write_text("flow: triage  # ours\n")
    mine = yaml.safe_load(flywheel("filters", "show")) | {"version": "mine-1"}
    mine["rules"][3]["at_least"] = 0.4
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(mine))
    assert "rule others_disagree" in flywheel("filters", "diff", "mine.yaml")
    done = json.loads(flywheel("filters", "adopt", "mine.yaml", "--reason", "less noise", "--json"))
    assert (done["file"], done["changed"]) == ("filters/mine-1.yaml", True)
    text = (tmp_path / "flywheel.yaml").read_text()
    assert text == 'flow: triage  # ours\nquality:\n  filter_file: "filters/mine-1.yaml"\n'
    assert "Both filters say the same" in flywheel("filters", "diff", "mine.yaml")
    assert "as it was" in flywheel("filters", "adopt", "mine.yaml", "--reason", "less noise")


def test_what_is_not_there_is_one_sentence(flywheel):
    with pytest.raises(NotFoundInLakeError, match="The flow 'triage' has no interaction 'nothing'"):
        flywheel("curate", "explain", "nothing")
    with pytest.raises(NotFoundInLakeError, match="no dataset yet; make one with: flywheel turn"):
        flywheel("curate", "show")
