"""Export: every format, only what people agree to now, whole files or none."""

import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from uuid6 import uuid7

from flywheel.capture.importer import import_interactions
from flywheel.config import FlywheelConfig
from flywheel.errors import UsageError
from flywheel.lake.keys import Keyring
from flywheel.lake.manifests import Manifest, write_manifest
from flywheel.lake.schemas import SCHEMAS
from flywheel.lake.tables import Lake, open_lake
from flywheel.records import (
    Check,
    Consent,
    EvalCase,
    EvalResult,
    Example,
    Feedback,
    Inference,
    Judgement,
    Message,
    Signal,
    feedback_id,
    utcnow,
)
from flywheel.workflow.exchange import export_file
from flywheel.workflow.exchange.export import export

PROMPT = [Message(role="user", content="where is my parcel, grüße?")]


class Shop:
    """A lake with three people: ann agrees to training, ben to evaluation, cid to nothing."""

    def __init__(self, home: Path) -> None:
        self.config = FlywheelConfig(home=home)
        self.lake: Lake = open_lake(self.config)
        self.out = home / "out"
        self.out.mkdir(parents=True)
        consents = {"ann": ["training"], "ben": ["evaluation"], "cid": []}
        self.rows = {name: self.inference(name, purposes) for name, purposes in consents.items()}
        self.put("inferences", list(self.rows.values()))

    def inference(self, subject: str, consent: Sequence[str], **more) -> Inference:
        values = {
            "inference_id": str(uuid7()), "flow": "triage", "ts": utcnow(), "subject": subject, "consent": consent,
            "model_version": "m1", "messages": PROMPT, "choices": ["no", "on its way"], "choice_served": 1,
            "params": {"temperature": 0.5},
        }  # fmt: skip
        return Inference.model_validate({**values, **more})

    def example(self, subject: str, number: int = 0) -> Example:
        return Example(
            example_id=f"ex-{subject}-{number}", flow="triage", messages=PROMPT, target=f"answer {number}",
            inference_ids=[self.rows[subject].inference_id], subject=subject, origin="liked",
        )  # fmt: skip

    def put(self, table: str, rows: Sequence, flow: str | None = None) -> None:
        version = (self.lake.last_committed(table, "test") or 0) + 1
        self.lake.append(table, rows, app="test", version=version, flow=flow)

    def dataset(self, name: str, examples: Sequence[Example]) -> None:
        self.put("examples", examples)
        rows = [[example.example_id, example.inference_ids, "mac"] for example in examples]
        write_manifest(self.lake, Manifest(
            kind="dataset", id=name, flow="triage", code_version="1", config_hash="x", seed=0, data={"rows": rows},
        ))  # fmt: skip

    def say(self, subject: str, purpose: str, state: str) -> None:
        ts = utcnow() + timedelta(microseconds=1)
        values = {"subject": subject, "purpose": purpose, "ts": ts, "state": state}
        self.put("consents", [Consent.model_validate(values)])

    def export(self, name: str, file: str, **more):
        return export(self.lake, self.config, name, out=self.out / file, **more)

    def lines(self, file: str) -> list[dict]:
        return [json.loads(line) for line in (self.out / file).read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "home")


def test_a_table_as_parquet_has_the_tables_columns(shop: Shop):
    report = shop.export("inferences", "a.parquet")
    table = pq.read_table(shop.out / "a.parquet")
    assert table.schema.equals(SCHEMAS["inferences"], check_metadata=False)
    assert table["subject"].to_pylist() == ["ann"]
    assert (report.kind, report.format, report.rows, report.not_consented, report.purpose) == (
        "table", "parquet", 1, 2, "training",
    )  # fmt: skip
    assert report.bytes == (shop.out / "a.parquet").stat().st_size


def test_a_table_as_lines_is_the_row_with_objects_where_keys_are_open(shop: Shop):
    report = shop.export("inferences", "a.jsonl", purpose="evaluation")
    (row,) = shop.lines("a.jsonl")
    assert Inference.model_validate(row) == shop.rows["ben"]
    assert row["params"] == {"temperature": 0.5}
    assert (report.rows, report.format) == (1, "jsonl")
    assert shop.export("inferences", "none.jsonl", purpose="third_party").rows == 0


def test_chats_come_back_through_the_importer(shop: Shop, tmp_path: Path):
    shop.put("inferences", [shop.inference("ann", ["training"], choices=[], choice_served=0)])
    report = shop.export("inferences", "chat.jsonl", format_="chat")
    said = [{"role": "user", "content": PROMPT[0].content}, {"role": "assistant", "content": "on its way"}]
    assert shop.lines("chat.jsonl") == [{"messages": said}]
    assert (report.rows, report.without_answer, report.not_consented) == (1, 1, 2)
    other = FlywheelConfig(home=tmp_path / "other")
    back = import_interactions(open_lake(other), other, Keyring(tmp_path / "other"), shop.out / "chat.jsonl")
    assert (back.inferences, back.rejected, back.files[0].format) == (1, 0, "openai")


def test_a_dataset_is_its_examples_each_once_with_consent_as_it_is_now(shop: Shop):
    mine = [shop.example("ann", n) for n in range(3)]
    shop.dataset("dataset-one", [*mine, shop.example("ben")])
    shop.dataset("dataset-two", mine[:2])
    report = shop.export("dataset-two", "two.jsonl")
    assert sorted(row["example_id"] for row in shop.lines("two.jsonl")) == ["ex-ann-0", "ex-ann-1"]
    assert (report.kind, report.rows, report.not_consented, report.gone) == ("dataset", 2, 0, 0)
    assert shop.export("dataset/dataset-one", "one.chat", format_="chat").rows == 3
    assert shop.lines("one.chat")[0]["messages"][-1]["content"].startswith("answer ")
    shop.say("ann", "training", "withdrawn")
    shop.say("ben", "training", "granted")
    report = shop.export("dataset-one", "one.jsonl")
    assert [row["subject"] for row in shop.lines("one.jsonl")] == ["ben"]
    assert (report.rows, report.not_consented) == (1, 3)
    assert "3 left out without consent to training" in report.summary()


def test_rows_of_a_dataset_that_are_gone_are_counted(shop: Shop):
    rows = [["ex-gone", [], "mac"], [shop.example("ann").example_id, [], "mac"]]
    shop.put("examples", [shop.example("ann")])
    write_manifest(shop.lake, Manifest(
        kind="dataset", id="dataset-x", flow="triage", code_version="1", config_hash="x", seed=0, data={"rows": rows},
    ))  # fmt: skip
    report = shop.export("dataset-x", "x.jsonl")
    assert (report.rows, report.gone) == (1, 1)
    assert "1 are gone" in report.summary()


def test_what_hangs_on_an_interaction_goes_out_with_it(shop: Shop):
    def reaction(name: str) -> Feedback:
        one = shop.rows[name].inference_id
        return Feedback(feedback_id=feedback_id("default", one, "k"), inference_id=one, flow="triage", ts=utcnow(),
                        subject=name, kind="thumbs", value=1)  # fmt: skip

    shop.put("feedback", [reaction(name) for name in shop.rows])
    signals = [Signal(inference_id=row.inference_id, signal="s", version="1", value=1.0) for row in shop.rows.values()]
    shop.put("signals", signals, flow="triage")
    assert shop.export("feedback", "f.jsonl").rows == 1
    assert shop.lines("f.jsonl")[0]["subject"] == "ann"
    assert shop.export("signals", "s.parquet").not_consented == 2
    unknown = reaction("ann").model_copy(update={"inference_id": str(uuid7()), "feedback_id": "x"})
    shop.put("feedback", [unknown])
    assert shop.export("feedback", "g.jsonl").not_consented == 3


def test_a_reaction_to_a_session_follows_the_consent_to_all_of_it(shop: Shop):
    def answer(subject: str, session: str, day: int) -> Inference:
        key = f"{1_746_093_600_000 + day * 86_400_000:012x}"
        identity = f"{key[:8]}-{key[8:]}-7000-8000-{uuid7().hex[-12:]}"
        return shop.inference(subject, ["training"], inference_id=identity, session_id=session)

    def reaction(session: str) -> Feedback:
        return Feedback(feedback_id=f"f-{session}", inference_id="", session_id=session, flow="triage", ts=utcnow(),
                        subject="ann", kind="comment", text="thanks")  # fmt: skip

    shop.put("inferences", [answer("ann", "hers", 0), answer("ann", "both", 0), answer("ben", "both", 1)])
    shop.put("feedback", [reaction(session) for session in ("hers", "both", "gone")])

    def exported(file: str) -> tuple[list[str], int]:
        report = shop.export("feedback", file)
        return sorted(row["session_id"] for row in shop.lines(file)), report.not_consented

    assert exported("a.jsonl") == (["both", "hers"], 1)
    shop.say("ben", "training", "withdrawn")
    assert exported("b.jsonl") == (["hers"], 2)
    shop.say("ann", "training", "withdrawn")
    assert exported("c.jsonl") == ([], 3)


def test_what_judges_needs_consent_to_evaluation_and_imported_cases_need_none(shop: Shop):
    def case(number: int, origin: str, source: str | None) -> EvalCase:
        return EvalCase.model_validate({
            "case_id": f"c{number}", "flow": "triage", "suite": "s", "messages": PROMPT, "origin": origin,
            "check": Check(kind="json", expected={"a": 1}), "inference_id": source and shop.rows[source].inference_id,
        })  # fmt: skip

    shop.put("eval_cases", [case(0, "import", None), case(1, "failure", "ann"), case(2, "failure", "ben")])
    results = [
        EvalResult(run_id="r", case_id=f"c{n}", case_version=1, suite="s", model_version="m", answer="x", passed=True,
                   score=1.0) for n in range(4)
    ]  # fmt: skip
    shop.put("eval_results", results, flow="triage")
    assert shop.export("eval_cases", "c.jsonl").purpose == "evaluation"
    assert sorted(row["case_id"] for row in shop.lines("c.jsonl")) == ["c0", "c2"]
    assert shop.lines("c.jsonl")[0]["check"]["expected"] == {"a": 1}
    shop.export("eval_results", "r.jsonl")
    assert sorted(row["case_id"] for row in shop.lines("r.jsonl")) == ["c0", "c2", "c3"]


def test_ledgers_go_out_whole_and_a_table_without_rows_is_an_empty_file(shop: Shop):
    shop.say("cid", "training", "withdrawn")
    assert shop.export("consents", "c.jsonl").rows == 1
    assert shop.export("labels", "l.parquet").rows == 0
    assert pq.read_table(shop.out / "l.parquet").schema.names == SCHEMAS["labels"].names


def test_other_flows_stay_where_they_are(shop: Shop):
    shop.put("inferences", [shop.inference("dan", ["training"], flow="other")])
    assert shop.export("inferences", "a.jsonl").rows == 1
    shop.export("inferences", "b.jsonl", flow="other")
    assert [row["subject"] for row in shop.lines("b.jsonl")] == ["dan"]


def test_many_rows_over_several_days(shop: Shop):
    day = 86_400_000
    start = 1_746_093_600_000
    ids = [
        f"{value[:8]}-{value[8:]}-7000-8000-{n:012x}" for n in range(9_000) for value in [f"{start + n % 5 * day:012x}"]
    ]
    made = [shop.inference("ann", ["training"] if n % 3 else [], inference_id=key) for n, key in enumerate(ids)]
    shop.put("inferences", made)
    shop.put("signals", [Signal(inference_id=key, signal="s", version="1", value=1.0) for key in ids], flow="triage")
    assert shop.export("inferences", "many.parquet").rows == 6_001
    assert shop.export("signals", "signals.parquet").rows == 6_000


# --- the file -------------------------------------------------------------------------------------------------------


def test_a_file_that_is_there_is_kept_unless_forced(shop: Shop):
    (shop.out / "a.jsonl").write_text("mine")
    with pytest.raises(UsageError, match="--force"):
        shop.export("inferences", "a.jsonl")
    assert (shop.out / "a.jsonl").read_text() == "mine"
    assert shop.export("inferences", "a.jsonl", force=True).rows == 1
    assert len(shop.lines("a.jsonl")) == 1


@pytest.mark.parametrize("file", ["a.jsonl", "a.parquet", "a.chat"])
def test_an_export_that_dies_leaves_nothing(shop: Shop, monkeypatch, file):
    def die(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Lake, "scan", die)
    with pytest.raises(KeyboardInterrupt):
        shop.export("inferences", file, format_="chat" if file == "a.chat" else None)
    assert list(shop.out.iterdir()) == []


def test_a_file_that_appears_meanwhile_is_not_replaced(shop: Shop, monkeypatch):
    real = export_file.sync_file

    def slow(path: Path) -> None:
        (shop.out / "a.jsonl").write_text("theirs")
        real(path)

    monkeypatch.setattr(export_file, "sync_file", slow)
    with pytest.raises(UsageError, match="there already"):
        shop.export("inferences", "a.jsonl")
    assert [path.name for path in shop.out.iterdir()] == ["a.jsonl"]
    assert (shop.out / "a.jsonl").read_text() == "theirs"


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("example", {}, "Did you mean 'examples'"),
        ("dataset-onf", {}, "Did you mean 'dataset-one'"),
        ("nothing-like-it", {}, "datasets of triage: dataset-one"),
        ("feedback", {"format_": "chat"}, "one of examples, inferences"),
        ("feedback", {"format_": "csv"}, "known: parquet, jsonl, chat"),
        ("feedback", {"purpose": "fun"}, "known: training, evaluation, third_party"),
    ],
)
def test_what_cannot_be_exported_says_what_can(shop: Shop, name, more, said):
    shop.dataset("dataset-one", [shop.example("ann")])
    with pytest.raises(UsageError, match=said):
        shop.export(name, "a.jsonl", **more)
    assert list(shop.out.iterdir()) == []


def test_a_place_that_cannot_be_written_says_so(shop: Shop):
    with pytest.raises(UsageError, match="cannot be written"):
        shop.export("feedback", "no/such/folder.jsonl")


def test_judgements_follow_the_consent_behind_their_item(shop: Shop):
    case = EvalCase(
        case_id="of-cid", flow="triage", suite="s", messages=PROMPT, check=Check(kind="exact", expected="x"),
        origin="random", inference_id=shop.rows["cid"].inference_id,
    )  # fmt: skip
    own = case.model_copy(update={"case_id": "golden", "inference_id": None, "origin": "golden"})
    shop.put("eval_cases", [case, own])
    items = [shop.rows["ann"].inference_id, shop.rows["ben"].inference_id, "of-cid", "golden", "nobody-knows"]
    rows = [
        Judgement(
            judgement_id=f"j{n}", flow="triage", ts=utcnow(), judge="j", item_id=item, left_version="a", verdict="tie",
            right_version="b", forward="tie", backward="tie", left_length=1, right_length=1,
        )
        for n, item in enumerate(items)
    ]  # fmt: skip
    shop.put("judgements", rows)
    report = shop.export("judgements", "j.jsonl")
    assert [row["item_id"] for row in shop.lines("j.jsonl")] == [items[1], "golden"]
    assert (report.rows, report.not_consented, report.purpose) == (2, 3, "evaluation")
    shop.say("cid", "evaluation", "granted")
    assert shop.export("judgements", "k.jsonl").rows == 3


def test_what_people_said_of_others_answers_stays_when_they_have_withdrawn(shop: Shop):
    def correction(name: str, about: str, session: str = "") -> Feedback:
        one = "" if session else shop.rows[about].inference_id
        return Feedback(
            feedback_id=f"f-{name}-{about}-{session}", inference_id=one, session_id=session or None, flow="triage",
            ts=utcnow(), subject=name, kind="correction", text=f"said by {name}",
        )  # fmt: skip

    shop.put("inferences", [shop.inference("ann", ["training"], session_id="hers")])
    said = [correction("ann", "ann"), correction("dan", "ann"), correction("eve", "ann")]
    shop.put("feedback", [*said, correction("dan", "", "hers"), correction("eve", "", "hers")])

    def texts(file: str) -> list[str]:
        shop.export("feedback", file)
        return sorted(row["text"] for row in shop.lines(file))

    assert texts("a.jsonl") == ["said by ann", "said by dan", "said by dan", "said by eve", "said by eve"]
    shop.say("dan", "training", "withdrawn")
    assert texts("b.jsonl") == ["said by ann", "said by eve", "said by eve"]
    shop.say("ann", "training", "withdrawn")
    assert texts("c.jsonl") == []
