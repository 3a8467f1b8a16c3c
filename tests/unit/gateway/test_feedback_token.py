import pytest
from itsdangerous import URLSafeTimedSerializer

from flywheel.gateway.problems import ApiProblem
from flywheel.gateway.tokens import SALT, FeedbackTokens


def tokens(key=b"k", flow="triage", days=30):
    return FeedbackTokens(key, flow=flow, days=days)


def refused(checker, token, inference="i1", tenant="default"):
    with pytest.raises(ApiProblem) as problem:
        checker.check(token, tenant, inference)
    return problem.value.status, problem.value.code


def test_a_token_is_good_for_its_answer_only():
    token = tokens().issue("default", "i1")
    tokens().check(token, "default", "i1")
    assert refused(tokens(), token, "i2") == (403, "token_mismatch")
    assert refused(tokens(flow="other"), token) == (403, "token_mismatch")
    assert refused(tokens(), token, tenant="other") == (403, "token_mismatch")
    assert refused(tokens(key=b"other"), token) == (403, "token_invalid")
    assert refused(tokens(), token[:-2] + "xx") == (403, "token_invalid")
    assert refused(tokens(), None) == (401, "token_missing")


def test_a_token_of_another_purpose_is_refused():
    other = URLSafeTimedSerializer(b"k", salt="something-else").dumps(["i1", "triage", "default"])
    assert refused(tokens(), other) == (403, "token_invalid")
    assert SALT


def test_a_token_grows_old(monkeypatch):
    token = tokens(days=1).issue("default", "i1")
    import time

    later = time.time() + 2 * 86_400
    monkeypatch.setattr("itsdangerous.timed.time.time", lambda: later)
    assert refused(tokens(days=1), token) == (403, "token_expired")
