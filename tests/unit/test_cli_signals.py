import json

from rich.console import Console
from typer.testing import CliRunner

from flywheel.cli.main import app
from flywheel.errors import UsageError
from flywheel.operate.render import funnel_table


def run(*words):
    return CliRunner().invoke(app, ["signals", *words])


def test_json_lists_every_signal_with_its_declaration():
    listed = json.loads(run("--json").stdout)
    assert {"explicit", "reprompt", "personal_data", "rater_trust"} <= {one["name"] for one in listed}
    trust = next(one for one in listed if one["name"] == "rater_trust")
    assert trust["on"] is True
    assert trust["decides"] == ["untrusted_rater", "too_few_votes"]
    assert all(one["measures"] and one["gamed"] and one["version"] and one["inputs"] for one in listed)


def test_what_is_switched_off_is_listed_as_off():
    listed = json.loads(run("--json", "-s", "quality.signals.off=[language]").stdout)
    assert [one["name"] for one in listed if not one["on"] and one["setting"] is None] == ["language"]


def test_table_and_page_for_people():
    assert "explicit" in run().stdout
    page = run("length").stdout
    assert "padding" in page


def test_an_unknown_name_says_which_there_are():
    result = run("lenght")
    assert isinstance(result.exception, UsageError)
    assert "length" in str(result.exception)


def test_the_funnel_names_the_signals_behind_a_reason():
    console = Console(record=True, width=100)
    console.print(funnel_table({"captured": 9, "dropped": {"others_disagree": 3, "no_training_consent": 1}}))
    shown = console.export_text()
    assert "dropped: others_disagree (agreement)" in shown
    assert "dropped: no_training_consent " in shown
