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
    _check_announced(request, limit)
    try:
        async with asyncio.timeout(WAIT_S) as patience:
            return await _read(request, limit, patience)
    except TimeoutError:
        raise ApiProblem(
            408, "the body came too slowly; send it again", "invalid_request_error", code="body_too_slow", close=True
        ) from None
    except ClientDisconnect:
        raise bad_request("the client left before its body was complete", "incomplete_body") from None


def _check_announced(request: Request, limit: int) -> None:
    text = request.headers.get("content-length")
    if text is None:
        return
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise bad_request("content-length must be a whole number", "invalid_header")
    if int(text) > limit:
        raise _too_large(limit, close=int(text) > limit * DRAINED)


async def _read(request: Request, limit: int, patience: asyncio.Timeout) -> bytes:
    parts: list[bytes] = []
    size = 0
    until = patience.when()
    assert until is not None
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise _too_large(limit, close=True)
        if parts and part:  # a second piece: what has come buys time for what is still to come
            patience.reschedule(until + size / MIN_RATE)
        parts.append(part)
    return b"".join(parts)


def _too_large(limit: int, *, close: bool) -> ApiProblem:
    return ApiProblem(
        413, f"the body is larger than {limit} bytes", "invalid_request_error", code="body_too_large", close=close
    )
