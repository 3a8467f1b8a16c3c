"""HTTP errors in OpenAI's shape: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

from typing import Any


class ApiProblem(Exception):  # noqa: N818  (a refusal is an answer, not a failure of the program)
    """A refused request: what the client is told, and with which status."""

    def __init__(
        self,
        status: int,
        message: str,
        kind: str,
        *,
        code: str | None = None,
        retry_after: int = 0,
        param: str | None = None,
        close: bool = False,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.kind, self.code, self.param = status, message, kind, code, param
        self.headers = {"retry-after": str(retry_after)} if retry_after else {}
        if close:  # what the client may still send is not worth reading
            self.headers["connection"] = "close"

    def body(self) -> dict[str, Any]:
        """The JSON body."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


def bad_request(message: str, code: str | None = None, *, param: str | None = None) -> ApiProblem:
    """400: the request is malformed; repeating it does not help."""
    return ApiProblem(400, message, "invalid_request_error", code=code, param=param)


def unavailable(message: str, code: str, *, retry_after: int = 2) -> ApiProblem:
    """503: nothing was recorded as done; repeating it later may help."""
    return ApiProblem(503, message, "server_error", code=code, retry_after=retry_after)


def timed_out(version: str, timeout_s: float) -> ApiProblem:
    """504: an engine's answer, or the next part of it, did not come in time."""
    return ApiProblem(504, f"'{version}' did not answer within {timeout_s:g} s", "timeout_error", code="engine_timeout")


def from_engine(answer: dict[str, Any]) -> ApiProblem:
    """An engine's ``{"error": ...}`` as what the client is told: 4xx is the client's, all else is ours."""
    error = answer.get("error") or {}
    status = error.get("code")
    message = str(error.get("message") or "the engine gave no reason")
    if isinstance(status, int) and 400 <= status < 500:
        return ApiProblem(status, message, str(error.get("type") or "invalid_request_error"))
    if status == 504:
        return ApiProblem(504, message, "timeout_error", code="engine_timeout")
    return ApiProblem(502, message, "server_error", code="engine_error")
