"""Reading a request body: not more than allowed, not longer than allowed, refused as early as it can be known."""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect, Request

from flywheel.gateway.problems import ApiProblem, bad_request

DRAINED = 8
"""A body up to this many times the limit is answered on an open connection, so that an honest client reads its 413
(the server throws away what still comes); after a larger or unannounced one the connection is closed."""
MIN_RATE = 16_384
"""Bytes a second that a body must bring after the first ``WAIT_S`` seconds."""
WAIT_S = 10.0


async def read_body(request: Request, limit: int) -> bytes:
    """The body, at most ``limit`` bytes.

    Raises:
        ApiProblem: 413 too large (by its announced length before anything is read), 408 too slow, 400 client left.
    """
    announced = _announced(request, limit)
    try:
        async with asyncio.timeout(WAIT_S + limit / MIN_RATE if announced is None else WAIT_S + announced / MIN_RATE):
            return await _read(request, limit)
    except TimeoutError:
        raise ApiProblem(
            408, "the body came too slowly; send it again", "invalid_request_error", code="body_too_slow", close=True
        ) from None
    except ClientDisconnect:
        raise bad_request("the client left before its body was complete", "incomplete_body") from None


def _announced(request: Request, limit: int) -> int | None:
    text = request.headers.get("content-length")
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise bad_request("content-length must be a whole number", "invalid_header")
    if int(text) > limit:
        raise _too_large(limit, close=int(text) > limit * DRAINED)
    return int(text)


async def _read(request: Request, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise _too_large(limit, close=True)
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(limit: int, *, close: bool) -> ApiProblem:
    return ApiProblem(
        413, f"the body is larger than {limit} bytes", "invalid_request_error", code="body_too_large", close=close
    )
