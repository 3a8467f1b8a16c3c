"""The feedback token: proof that this gateway gave the rated answer, for this flow and tenant.

Signed with a key derived for this purpose only, so an unknown or foreign inference cannot be rated and no
table has to be read before a feedback is accepted. It holds no personal data: clients and proxies log it. Of the
session, which may be anything a product puts there, it holds a keyed digest: enough to rate the whole session.
"""

from __future__ import annotations

import hmac
from typing import Any

from itsdangerous import BadSignature, SignatureExpired, URLSafeTimedSerializer

from flywheel.gateway.problems import ApiProblem

SALT = "flywheel-feedback-v1"
DAY_S = 86_400


class FeedbackTokens:
    """Issues and checks tokens of one flow."""

    def __init__(self, key: bytes, *, flow: str, days: int) -> None:
        self._serializer = URLSafeTimedSerializer(key, salt=SALT)
        self._signer = self._serializer.make_signer()  # ``dumps`` would make one each time, a fifth of its cost
        self._key, self._flow, self._seconds = key, flow, days * DAY_S

    def issue(self, tenant: str, inference_id: str, session: str | None = None) -> str:
        """A token for an answer given to ``tenant`` now, in ``session``."""
        signed = [inference_id, self._flow, tenant]
        content = [*signed, self.session_mark(tenant, session)] if session else signed
        return self._signer.sign(self._serializer.dump_payload(content)).decode()

    def check(self, token: str | None, tenant: str, inference_id: str) -> None:
        """Return when ``token`` was issued to ``tenant`` for this inference of this flow.

        Raises:
            ApiProblem: 401 without a token, 403 with one that is not valid here (any more).
        """
        if self._signed(token)[:3] != [inference_id, self._flow, tenant]:
            raise _refused(403, "the feedback_token belongs to another answer", "token_mismatch")

    def answer_of(self, token: str | None, tenant: str, session: str) -> str:
        """The inference that ``token`` was issued for, an answer of this ``session`` of ``tenant``.

        Raises:
            ApiProblem: 401 without a token, 403 with one of another session, or that is not valid here (any more).
        """
        signed = self._signed(token)
        if signed[1:] != [self._flow, tenant, self.session_mark(tenant, session)]:
            raise _refused(403, "the feedback_token belongs to no answer of this session", "token_mismatch")
        return signed[0]

    def session_mark(self, tenant: str, session: str) -> str:
        """A session as others may see it: 24 hex digits that nobody can compute without the key."""
        return hmac.digest(self._key, f"session\x1f{tenant}\x1f{session}".encode(), "sha256").hex()[:24]

    def _signed(self, token: str | None) -> list[Any]:
        if not token:
            raise _refused(401, "feedback needs the feedback_token that came with the answer", "token_missing")
        try:
            return self._serializer.loads(token, max_age=self._seconds)
        except SignatureExpired as error:
            raise _refused(403, "the feedback_token is too old to rate this answer", "token_expired") from error
        except BadSignature as error:
            raise _refused(403, "the feedback_token is not one of this gateway's", "token_invalid") from error


class NoTokens(FeedbackTokens):
    """Of a gateway that records nothing: nobody gets a token that would rate an unknown answer."""

    def issue(self, tenant: str, inference_id: str, session: str | None = None) -> str:  # noqa: ARG002  (of the base)
        """Empty, which means: none."""
        return ""


def _refused(status: int, message: str, code: str) -> ApiProblem:
    return ApiProblem(status, message, "authentication_error" if status == 401 else "permission_error", code=code)
