"""Importing: good lines stored, bad ones listed, and each row once however often."""

import gzip
import json
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flywheel.capture import import_run
from flywheel.capture.importer import import_cases, import_interactions, import_lock, uuid7_of
from flywheel.capture.readers import Reading
from flywheel.errors import BusyError, InputError, UsageError
from flywheel.lake.erasures import bury
from flywheel.lake.tables import Lake
from flywheel.records import EvalCase, utcnow

LINE = {
    "flow": "triage",
    "user": "ann",
    "session_id": "s1",
    "ts": "2025-05-01T10:00:00+02:00",
    "messages": [{"role": "user", "content": "write to ann@corp.io"}],
    "response": "ok, ann@corp.io",
    "model": "old",
    "consent": ["training", "evaluation"],
    "feedback": [{"kind": "thumbs", "value": -1}, {"kind": "correction", "text": "no: ann@corp.io"}],
}
CASE = {
    "messages": [{"role": "user", "content": "hi"}],
    "check": {"kind": "exact", "expected": "hello"},
    "suite": "greetings",
}


@pytest.fixture
def write(tmp_path):
    def write(*lines, name="file.jsonl"):
        path = tmp_path / name
        path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
        return path

    return write


def run(pipeline, path, **more):
    return import_interactions(pipeline.lake, pipeline.config, pipeline.keyring, path, **more)


def test_a_line_becomes_an_inference_and_its_reactions(pipeline, write):
    report = run(pipeline, write(LINE))
    assert (report.lines, report.inferences, report.feedback, report.duplicates) == (1, 1, 2, 0)
    (row,), reactions = pipeline.inferences(), sorted(pipeline.feedback(), key=lambda reaction: reaction.kind)
    stand_in = row.messages[0].content.removeprefix("write to ")
    assert "corp.io" not in stand_in
    assert row.choices == [f"ok, {stand_in}"]
    assert reactions[0].text == f"no: {stand_in}"
    assert (row.traffic_kind, row.model_version, row.ts) == ("import", "old", datetime(2025, 5, 1, 8, tzinfo=UTC))
    assert row.subject == pipeline.keyring.pseudonym("default", "ann") == reactions[1].subject
    assert (reactions[1].kind, reactions[1].value) == ("thumbs", -1)
    assert pipeline.ids("inferences", "date") == ["2025-05-01"]


def test_importing_twice_changes_nothing(pipeline, write):
    without_time = {key: value for key, value in LINE.items() if key != "ts"}
    path = write(LINE, without_time)
    run(pipeline, path)
    before = pipeline.lake.version("inferences")
    report = run(pipeline, path)
    assert (report.inferences, report.feedback, report.duplicates) == (0, 0, 6)
    assert len(pipeline.inferences()) == 2
    assert pipeline.lake.version("inferences") == before
    assert "nothing new" in report.summary()


def test_a_file_that_grew_brings_only_what_is_new(pipeline, write):
    run(pipeline, write(LINE))
    more = {**LINE, "feedback": [*LINE["feedback"], {"kind": "rating", "value": 2}]}
    report = run(pipeline, write(LINE, more, {**LINE, "user": "ben"}, name="grown.jsonl"))
    assert (report.inferences, report.feedback) == (1, 3)
    assert len(pipeline.inferences()) == 2
    assert len(pipeline.feedback()) == 5


def test_many_lines_go_in_chunks_and_a_killed_import_goes_on(pipeline, write, monkeypatch):
    monkeypatch.setattr(import_run, "CHUNK", 4)
    path = write(*({**LINE, "user": f"u{n}"} for n in range(10)))
    real, calls = Lake.append, []

    def mortal(self, table, rows, **how):
        calls.append(table)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(self, table, rows, **how)

    monkeypatch.setattr(Lake, "append", mortal)
    with pytest.raises(KeyboardInterrupt):
        run(pipeline, path)
    report = run(pipeline, path)
    assert len(pipeline.inferences()) == len({row.inference_id for row in pipeline.inferences()}) == 10
    assert len(pipeline.feedback()) == len({row.feedback_id for row in pipeline.feedback()}) == 20
    assert report.inferences == 2
    assert report.feedback == 12


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ({**LINE, "flow": None}, "flow"),
        ({**LINE, "colour": 1}, "colour"),
        ({key: value for key, value in LINE.items() if key != "consent"}, "consent"),
        ({**LINE, "consent": ["everything"]}, "consent.0"),
        ({**LINE, "ts": "2025-05-01T10:00:00"}, "ts"),
        ({**LINE, "ts": "1970-01-01T00:00:00Z"}, "(line)"),
        ({**LINE, "ts": "9999-12-31T23:59:59-05:00"}, "(line)"),
        ({**LINE, "feedback": [{"kind": "click", "ts": "9999-12-31T23:59:59-05:00"}]}, "feedback.0.ts"),
        ({**LINE, "messages": []}, "messages"),
        ({**LINE, "messages": [{"role": "user"}]}, "messages.0.content"),
        ({**LINE, "messages": [{"role": "assistant", "content": "x"}]}, "(line)"),
        ({**LINE, "feedback": [{"kind": "thumbs", "value": 3}]}, "feedback.0"),
        ({**LINE, "feedback": [{"kind": "correction"}]}, "feedback.0"),
        ({**LINE, "feedback": [{"kind": "applause"}]}, "feedback.0.kind"),
        ("[1]\n", "(line)"),
        ('{"flow": \n', "(line)"),
        ("\ufffe nonsense\n", "(line)"),
    ],
)
def test_a_bad_line_is_listed_and_the_others_are_stored(pipeline, write, bad, field):
    path = write(LINE, "\n", bad, {**LINE, "user": "ben"})
    report = run(pipeline, path)
    assert (report.lines, report.rejected, report.inferences, report.feedback) == (3, 1, 2, 4)
    (reject,) = [json.loads(line) for line in Path(report.rejects).read_text().splitlines()]
    assert reject.keys() == {"file", "line", "field", "reason"}
    assert (reject["file"], reject["line"], reject["field"]) == (str(path), 3, field)
    assert report.first_rejects[0].line == 3
    assert "1 rejected" in report.summary()
    assert f"field '{field}'" in "\n".join(report.remarks())

    before = Path(report.rejects).read_text()
    again = run(pipeline, path)
    assert (again.lines, again.rejected, again.inferences, again.duplicates) == (3, 1, 0, 6)
    assert (again.rejects, Path(again.rejects).read_text()) == (report.rejects, before)


def test_strict_names_file_line_and_field_and_stores_nothing(pipeline, write):
    path = write(LINE, "\n", {**LINE, "user": ""})
    with pytest.raises(InputError) as error:
        run(pipeline, path, strict=True)
    assert (error.value.file, error.value.line, error.value.field) == (str(path), 3, "user")
    assert error.value.exit_code == 2
    assert pipeline.lake.version("inferences") is None
    assert not (pipeline.config.home_path() / "rejects").exists()
    assert run(pipeline, write(LINE, name="good.jsonl"), strict=True).inferences == 1


def test_rejects_say_nothing_of_the_text(pipeline, write):
    secrets = [
        '{"user": "anna@corp.io\n',
        {**LINE, "consent": ["anna@corp.io"]},
        {**LINE, "ts": "anna@corp.io"},
        {**LINE, "anna@corp.io": 1},
        {**LINE, "feedback": [{"kind": "anna@corp.io"}]},
    ]
    report = run(pipeline, write(*secrets))
    assert report.rejected == 5
    assert report.all_bad
    assert "anna" not in Path(report.rejects).read_text()


def test_rejects_go_where_they_are_wanted_and_leave_with_their_reason(pipeline, write, tmp_path):
    wanted = tmp_path / "bad.jsonl"
    assert run(pipeline, write(LINE, "x\n"), rejects=wanted).rejects == str(wanted)
    assert len(wanted.read_text().splitlines()) == 1
    assert run(pipeline, write(LINE), rejects=wanted).rejects is None
    assert not wanted.exists()
    with pytest.raises(UsageError, match="--rejects"):
        run(pipeline, write(LINE, "x\n"), rejects=tmp_path / "file.jsonl" / "bad.jsonl")


def test_bytes_that_are_no_utf8_are_a_bad_line(pipeline, tmp_path):
    path = tmp_path / "latin.jsonl"
    text = json.dumps(LINE, ensure_ascii=False)
    path.write_bytes(text.replace("ok", "ol\u00e9").encode("latin-1") + b"\n" + text.encode())
    report = run(pipeline, path)
    assert (report.rejected, report.inferences) == (1, 1)


def test_gzip_and_folders_bring_the_same_rows(pipeline, write, tmp_path):
    plain = write(LINE, {**LINE, "user": "ben"})
    folder = tmp_path / "logs" / "2025"
    folder.mkdir(parents=True)
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
    (folder / "a.json").write_text(json.dumps([{**LINE, "user": "cid"}, 7], indent=1))
    (folder / "notes.txt").write_text("not one of them")
    (folder / ".hidden.jsonl").write_text("x")
    report = run(pipeline, tmp_path / "logs")
    assert [file.file for file in report.files] == [str(folder / "a.json"), str(folder / "b.jsonl.gz")]
    assert [(file.lines, file.inferences, file.rejected) for file in report.files] == [(2, 1, 1), (2, 2, 0)]
    assert (report.lines, report.inferences, report.rejected) == (4, 3, 1)
    assert run(pipeline, plain).duplicates == 6


def test_a_gzip_that_is_cut_off_gives_the_lines_before(pipeline, tmp_path):
    lines = [json.dumps({**LINE, "user": uuid.UUID(int=n**9).hex}) + "\n" for n in range(200)]
    packed = gzip.compress("".join(lines).encode(), 1)
    path = tmp_path / "cut.jsonl.gz"
    path.write_bytes(packed[: len(packed) // 2])
    report = run(pipeline, path)
    assert 20 < report.inferences < 180
    assert (report.rejected, report.lines) == (1, report.inferences + 1)
    assert report.first_rejects[0].line == report.lines
    assert "cut off" in report.first_rejects[0].reason


def test_a_row_counts_for_its_file_once(pipeline, write, tmp_path):
    write(LINE, LINE, name="a.jsonl")
    write({**LINE, "feedback": [*LINE["feedback"], {"kind": "rating", "value": 1}]}, name="b.jsonl")
    report = run(pipeline, tmp_path)
    assert [(one.inferences, one.feedback, one.duplicates) for one in report.files] == [(1, 2, 3), (0, 1, 3)]


def test_lines_without_a_time_are_the_same_row_in_a_file_that_grew(pipeline, write):
    line = {key: value for key, value in LINE.items() if key != "ts"}
    run(pipeline, write(line))
    assert run(pipeline, write(line, {**line, "user": "ben"}, name="grown.jsonl")).inferences == 1
    assert len(pipeline.inferences()) == 2


def test_text_left_out_for_want_of_consent_can_come_with_consent(pipeline, write):
    silent = {key: value for key, value in LINE.items() if key != "consent"}
    path = write(silent)
    bare = run(pipeline, path, reading=Reading(consent=[]))
    assert (bare.inferences, bare.text_removed) == (1, 1)
    full = run(pipeline, path, reading=Reading(consent=["training"]))
    assert (full.inferences, full.text_removed) == (1, 0)
    assert sorted(len(row.messages) for row in pipeline.inferences()) == [0, 1]


def test_flags_fill_what_lines_leave_open_and_nothing_else(pipeline, write):
    open_line = {key: LINE[key] for key in ("messages", "response")}
    reading = Reading("flywheel", flow="other", user="team", consent=["training"])
    assert run(pipeline, write(open_line, LINE), reading=reading).inferences == 2
    rows = {row.flow: row for row in pipeline.inferences()}
    assert rows["other"].subject == pipeline.keyring.pseudonym("default", "team")
    assert rows["triage"].subject == pipeline.keyring.pseudonym("default", "ann")
    assert rows["triage"].consent == ["training", "evaluation"]


def test_what_a_model_was_taught_is_no_traffic_and_must_be_right(pipeline, write):
    taught = Reading("flywheel", taught=True)
    praised = {**LINE, "feedback": [{"kind": "thumbs", "value": 1}]}
    report = run(pipeline, write(LINE, praised), reading=taught)
    assert (report.inferences, report.feedback, report.rejected) == (1, 0, 1)
    assert [row.traffic_kind for row in pipeline.inferences()] == ["taught"]
    assert run(pipeline, write(praised), reading=taught).inferences == 0
    # The same line as traffic is another row.
    assert run(pipeline, write(praised)).inferences == 1


def test_a_format_that_does_not_exist_is_named_with_the_nearest(pipeline, write):
    with pytest.raises(UsageError, match="did you mean 'openai'"):
        run(pipeline, write(LINE), reading=Reading("opanai"))


def test_a_byte_order_mark_and_crlf_are_fine(pipeline, tmp_path):
    path = tmp_path / "windows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(LINE).encode() + b"\r\n\r\n")
    assert run(pipeline, path).inferences == 1


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_file_says_so(pipeline, write, content):
    with pytest.raises(UsageError, match="holds no line"):
        run(pipeline, write(content))


def test_a_missing_file_says_so(pipeline, tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        run(pipeline, tmp_path / "none.jsonl")
    with pytest.raises(UsageError, match="no file that ends in"):
        run(pipeline, tmp_path)


def test_without_consent_no_text_is_stored(pipeline, write):
    report = run(pipeline, write({**LINE, "consent": []}))
    assert report.text_removed == 1
    assert pipeline.inferences()[0].messages == []
    assert {reaction.text for reaction in pipeline.feedback()} == {None}
    assert "nobody consented" in report.remarks()[0]


def test_progress_is_told(pipeline, write):
    told = []

    class Watch:
        def start(self, name, text=""):
            told.append(name)

        def update(self, done, total=None, text=""):
            told.append((done, total))

        def finish(self, text=""):
            told.append(text)

    run(pipeline, write(*({**LINE, "user": f"u{n}"} for n in range(1_000))), progress=Watch())
    assert told[0] == "import"
    assert (1_000, None) in told
    assert "1,000 interactions" in told[-1]


def test_several_flows_in_one_file(pipeline, write):
    run(pipeline, write(LINE, {**LINE, "flow": "other"}))
    assert pipeline.ids("inferences", "flow") == ["other", "triage"]
    assert run(pipeline, write({**LINE, "flow": "other"}, name="again.jsonl")).duplicates == 3


def test_ids_carry_time_and_content():
    ts = datetime(2025, 5, 1, 8, 0, 0, 123000, tzinfo=UTC)
    value = uuid.UUID(uuid7_of(ts, "a", "b"))
    assert value.version == 7
    assert value.variant == uuid.RFC_4122
    assert value.int >> 80 == int(ts.timestamp() * 1000)
    assert str(value) == uuid7_of(ts, "a", "b") != uuid7_of(ts, "a", "c")
    assert uuid7_of(ts, "ab", "") != uuid7_of(ts, "a", "b")


def test_cases_are_stored_once(pipeline, write):
    number = {**CASE, "check": {"kind": "json", "expected": {"intent": "x"}, "fields": ["intent"]}, "slice": "x"}
    path = write(CASE, number, CASE)
    report = import_cases(pipeline.lake, pipeline.config, path)
    assert (report.cases, report.duplicates) == (2, 1)
    assert import_cases(pipeline.lake, pipeline.config, path).cases == 0
    assert import_cases(pipeline.lake, pipeline.config, write(CASE, name="other.jsonl")).cases == 0
    cases = pipeline.lake.records("eval_cases", EvalCase, flow="triage")
    assert {(case.suite, case.origin, case.check.kind) for case in cases} == {
        ("greetings", "import", "exact"),
        ("greetings", "import", "json"),
    }


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ({**CASE, "check": {"kind": "regex", "expected": "("}}, "(line)"),
        ({**CASE, "check": {"kind": "exact", "expected": {"a": 1}}}, "(line)"),
        ({**CASE, "check": {"kind": "guess", "expected": "x"}}, "check.kind"),
        ({**CASE, "suite": ""}, "suite"),
    ],
)
def test_a_bad_case_is_listed_and_with_strict_stores_nothing(pipeline, write, bad, field):
    path = write(CASE, bad)
    with pytest.raises(InputError) as error:
        import_cases(pipeline.lake, pipeline.config, path, strict=True)
    assert (error.value.line, error.value.field) == (2, field)
    assert pipeline.lake.version("eval_cases") is None
    report = import_cases(pipeline.lake, pipeline.config, path)
    assert (report.lines, report.cases, report.rejected) == (2, 1, 1)


def test_personal_data_in_cases_is_counted_and_refused_by_strict(pipeline, write):
    leaky = {**CASE, "check": {"kind": "json", "expected": {"mail": "ann@corp.io"}}}
    path = write(CASE, leaky, {**CASE, "messages": [{"role": "user", "content": "write to me@example.com"}]})
    report = import_cases(pipeline.lake, pipeline.config, path)
    assert (report.cases, report.personal_data) == (3, 1)
    assert "personal data" in report.remarks()[0]
    stored = pipeline.lake.records("eval_cases", EvalCase)
    assert {"mail": "ann@corp.io"} in [case.check.expected for case in stored]
    with pytest.raises(InputError, match=r"email") as error:
        import_cases(pipeline.lake, pipeline.config, path, strict=True)
    assert (error.value.line, error.value.field) == (2, "check.expected")
    assert "ann@" not in str(error.value)


def test_lines_of_erased_people_are_left_out_and_counted(pipeline, write):
    ben = {**LINE, "user": "ben", "feedback": [{"kind": "thumbs", "value": 1, "user": "ann"}, *LINE["feedback"]]}
    without_time = {key: value for key, value in LINE.items() if key != "ts"}
    bury(pipeline.lake.store, "default", pipeline.keyring.pseudonym("default", "ann"))
    later = {**LINE, "ts": (utcnow() + timedelta(seconds=1)).isoformat()}
    report = run(pipeline, write(LINE, ben, without_time, later))
    assert (report.inferences, report.feedback, report.erased) == (2, 4, 7)
    assert "7 rows of erased people were left out" in report.summary()
    subjects = [row.subject for row in pipeline.inferences()]
    assert sorted(subjects) == sorted(pipeline.keyring.pseudonym("default", user) for user in ("ann", "ben"))


def test_no_import_runs_beside_an_erasure(pipeline, write):
    path = write(LINE)
    with import_lock(pipeline.config, exclusive=False):
        assert run(pipeline, path).inferences == 1  # imports do not mind each other
        with (
            pytest.raises(BusyError, match="An import is running"),
            import_lock(pipeline.config, exclusive=True),
        ):
            pass
    with import_lock(pipeline.config, exclusive=True), pytest.raises(BusyError, match="being erased"):
        run(pipeline, path)
    assert run(pipeline, path).duplicates == 3


def test_a_case_whose_check_could_never_mark_is_a_bad_line(pipeline, write):
    def validate(check):
        if check.kind == "similarity" and check.threshold is None:
            raise UsageError("needs a threshold")

    several = {**CASE, "check": {"kind": "contains", "expected": ["a", "b"]}}
    vague = {**CASE, "check": {"kind": "similarity", "expected": "hello"}}
    path = write(several, vague)
    report = import_cases(pipeline.lake, pipeline.config, path, validate=validate)
    assert (report.cases, report.rejected) == (1, 1)
    with pytest.raises(InputError, match="line 2, field 'check': needs a threshold"):
        import_cases(pipeline.lake, pipeline.config, path, strict=True, validate=validate)
