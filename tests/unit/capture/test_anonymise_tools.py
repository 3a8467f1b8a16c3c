"""Personal data in tool calls: found inside the JSON of arguments, replaced without breaking it."""

import json

import pytest

from flywheel.capture.anonymise import Anonymiser
from flywheel.capture.json_text import clean_json
from flywheel.capture.privatise import TEXT_REMOVED, _without_text
from flywheel.config import PrivacyConfig
from flywheel.records import FunctionCall, Inference, Message, ShadowPair, ToolCall, utcnow

MAIL, CARD = "ann.miller@corp.example", "4111111111111111"
ANONYMISER = Anonymiser(b"k" * 32, PrivacyConfig())


def call(arguments, name="lookup"):
    return ToolCall(id="call_1", function=FunctionCall(name=name, arguments=arguments))


def inference(calls, **more):
    said = Message(role="assistant", content="", tool_calls=calls)
    asked = Message(role="user", content=f"who is {MAIL}?", name="ann")
    told = Message(role="tool", content=f"{MAIL} is a customer", tool_call_id="call_1")
    return Inference(
        inference_id="i", flow="f", ts=utcnow(), subject="s", model_version="m", messages=[asked, said, told],
        choices=["", "b"], tool_calls=[calls, []], **more,
    )  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [
        json.dumps({"mail": MAIL, "deep": [{"card": CARD}]}),
        json.dumps({"card": int(CARD)}),
        json.dumps({MAIL: 1}),
        json.dumps({"note": f"line\n{MAIL}\tend"}),
        '{"mail": "ann.miller\\u0040corp.example"}',
        f'{{"mail": "{MAIL}", broken',
        f"{MAIL}",
    ],
)
def test_arguments_hold_surrogates_only(arguments):
    clean = ANONYMISER.inference(inference([call(arguments)]))
    for found in (clean.messages[1].tool_calls[0], clean.tool_calls[0][0]):
        text = found.function.arguments
        assert MAIL not in text
        assert CARD not in text
        assert "\\u0040corp.example" not in text
        assert text != arguments
        assert (found.id, found.function.name) == ("call_1", "lookup")
    assert clean.messages[2].tool_call_id == "call_1"
    assert [len(calls) for calls in clean.tool_calls] == [1, 0]


def test_json_stays_json_and_one_value_has_one_surrogate_everywhere():
    clean = ANONYMISER.inference(inference([call(json.dumps({"mail": MAIL, "limit": 5, "ok": True, "x": None}))]))
    said = json.loads(clean.tool_calls[0][0].function.arguments)
    assert (said["limit"], said["ok"], said["x"]) == (5, True, None)
    assert said["mail"] in clean.messages[0].content
    assert said["mail"] in clean.messages[2].content


def test_doing_it_twice_changes_nothing():
    once = ANONYMISER.inference(inference([call(json.dumps({"mail": MAIL, "card": int(CARD)}))]))
    assert ANONYMISER.inference(once) == once


def test_arguments_without_personal_data_stay_byte_for_byte():
    text = '{ "city" : "Ulm",\n "days": 1.50, "big": 12345678901234567890123 }'
    assert ANONYMISER.inference(inference([call(text)])).tool_calls[0][0].function.arguments == text


def test_what_a_shadow_would_have_called_is_replaced_too():
    pair = ShadowPair(
        inference_id="i", flow="f", ts=utcnow(), subject="s", candidate="c", live_version="m", live_answer="",
        candidate_answer="", candidate_tool_calls=[call(json.dumps({"mail": MAIL}))],
    )  # fmt: skip
    assert MAIL not in ANONYMISER.shadow_pair(pair, "i").model_dump_json()


def test_parameters_such_as_tools_are_replaced_too():
    tools = [{"type": "function", "function": {"name": "f", "description": f"mail {MAIL}"}}]
    assert MAIL not in ANONYMISER.inference(inference([], params={"tools": tools})).model_dump_json()


def test_keys_that_become_one_are_not_lost():
    assert json.loads(clean_json('{"a1": 1, "a2": 2}', lambda text: "x" if text[0] == "a" else text)) == {
        "x": 1,
        "x (2)": 2,
    }


def test_a_row_without_consent_keeps_no_word_of_its_tools_or_tags():
    row = _without_text(inference([call(json.dumps({"mail": MAIL}))], tags={"note": MAIL}))
    said = row.model_dump_json()
    assert MAIL not in said
    assert "lookup" not in said
    assert row.tags == {TEXT_REMOVED: "no_consent"}
