"""A pair of the shadow in the lake: everything about its text is treated as the inference's own text is."""

import json

from flywheel.records import FunctionCall, ShadowPair, ToolCall


def mail(address):
    return [ToolCall(id="c1", function=FunctionCall(name="mail", arguments=json.dumps({"to": address})))]


def full(make, row):
    return make.pair(
        row, session_id=row.session_id, error_kind="refused", error="no such user bob@corp.io", mirror_propensity=0.5,
        live_tool_calls=mail("bob@corp.io"), candidate_tool_calls=mail("bob@corp.io"), policy_version=7,
        tags={"about": "bob@corp.io"}, live_tokens=4, candidate_ttft_ms=1.5,
    )  # fmt: skip


def stored(pipeline, *rows):
    pipeline.record(*rows)
    pipeline.ship()
    assert pipeline.ingest().rows == {"inferences": 1, "shadow_pairs": 1}
    (pair,) = pipeline.lake.records("shadow_pairs", ShadowPair)
    (inference,) = pipeline.inferences()
    return pair, inference


def test_every_text_of_a_pair_holds_the_inferences_stand_ins_and_its_session_is_the_same(pipeline, make):
    row = make.inference("mail me at bob@corp.io", session_id="bob@corp.io", subject="bob@corp.io")
    pair, inference = stored(pipeline, row, full(make, row))
    stand_in = inference.messages[0].content.removeprefix("mail me at ")
    assert "@example." in stand_in
    assert pair.error == f"no such user {stand_in}"
    assert pair.tags == {"about": stand_in}
    for calls in (pair.live_tool_calls, pair.candidate_tool_calls):
        assert json.loads(calls[0].function.arguments) == {"to": stand_in}
    assert pair.session_id == inference.session_id
    assert (pair.policy_version, pair.mirror_propensity, pair.live_tokens, pair.candidate_ttft_ms) == (7, 0.5, 4, 1.5)
    assert "bob" not in pair.model_dump_json()


def test_without_any_consent_a_pair_keeps_its_numbers_and_loses_every_text(pipeline, make):
    row = make.inference("mail me at bob@corp.io", session_id="s1", consent=[])
    pair, _ = stored(pipeline, row, full(make, row))
    assert (pair.live_answer, pair.candidate_answer, pair.error, pair.tags) == ("", None, None, {})
    assert pair.live_tool_calls == pair.candidate_tool_calls == []
    assert (pair.error_kind, pair.live_tokens, pair.candidate_ttft_ms) == ("refused", 4, 1.5)
