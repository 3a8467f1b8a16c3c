"""What came to ``/v1/feedback``: who may say it, one reaction or a batch, and what is answered. No I/O.

A batch is not atomic: what is right is recorded, in one durable commit, and each item has its own result, in order. A
page that reports ten gestures must not lose nine because one token is too old; sending the whole batch again changes
nothing, because ids are made of the items.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from flywheel.gateway import metrics
from flywheel.gateway.auth import Caller
from flywheel.gateway.problems import ApiProblem, bad_request
from flywheel.gateway.reactions import FeedbackSent, feedback_row, read_feedback
from flywheel.gateway.tokens import FeedbackTokens
from flywheel.records import Feedback

SERVER_ROLE: Final = "feedback"
"""Its keys belong to servers that know what they rate: they need no token, and one they send must be right."""


@dataclass(frozen=True)
class Taken:
    """What is to be recorded, and what the client is told once it is."""

    results: list[Feedback | ApiProblem]
    batch: bool

    @property
    def rows(self) -> list[Feedback]:
        """What is to be recorded."""
        return [one for one in self.results if isinstance(one, Feedback)]

    def status(self) -> int:
        """200: all recorded; 207: some, look at the results; none: the status of the first refusal."""
        refused = [one for one in self.results if isinstance(one, ApiProblem)]
        if not refused:
            return 200
        return 207 if len(refused) < len(self.results) else refused[0].status

    def answer(self) -> dict[str, Any]:
        """The body of the response."""
        said = [one.body() if isinstance(one, ApiProblem) else {"feedback_id": one.feedback_id} for one in self.results]
        if not self.batch:
            return said[0]
        counts = {"recorded": len(self.rows), "refused": len(said) - len(self.rows), "results": said}
        return counts if self.rows else {**counts, **said[0]}


def take(body: dict[str, Any], caller: Caller, tokens: FeedbackTokens, *, flow: str, limit: int) -> Taken:
    """Read one reaction, or ``{"items": [...]}`` with at most ``limit`` of them.

    Raises:
        ApiProblem: the one reaction is refused, or the batch is none.
    """
    if set(body) != {"items"}:
        return Taken([_row(body, caller, tokens, flow)], batch=False)
    items = body["items"]
    if not isinstance(items, list) or not items:
        raise bad_request("'items' must be a list with at least one reaction")
    if len(items) > limit:
        message = f"a batch holds at most {limit} reactions, not {len(items)}; send several"
        raise ApiProblem(413, message, "invalid_request_error", code="batch_too_large")
    return Taken([_tried(item, caller, tokens, flow) for item in items], batch=True)


def _tried(item: Any, caller: Caller, tokens: FeedbackTokens, flow: str) -> Feedback | ApiProblem:
    try:
        if not isinstance(item, dict):
            raise bad_request(f"a reaction must be a JSON object, not {type(item).__name__}")
        return _row(item, caller, tokens, flow)
    except ApiProblem as problem:
        metrics.REFUSED.labels(problem.code or "bad_feedback").inc()
        return problem


def _row(body: dict[str, Any], caller: Caller, tokens: FeedbackTokens, flow: str) -> Feedback:
    sent = read_feedback(body)
    if sent.feedback_token is not None or SERVER_ROLE not in caller.roles:
        sent = _vouched(sent, caller, tokens)
    about = sent.inference_id or ""
    if sent.session_id is not None:
        about = f"session:{tokens.session_mark(caller.tenant, sent.session_id)}"
    return feedback_row(sent, flow=flow, tenant=caller.tenant, about=about)


def _vouched(sent: FeedbackSent, caller: Caller, tokens: FeedbackTokens) -> FeedbackSent:
    """The same with what its token proves.

    Raises:
        ApiProblem: 401, 403.
    """
    if sent.inference_id is not None:
        tokens.check(sent.feedback_token, caller.tenant, sent.inference_id)
    if sent.session_id is None:
        return sent
    answer = tokens.answer_of(sent.feedback_token, caller.tenant, sent.session_id)
    return sent.model_copy(update={"inference_id": answer})
