"""Fewer, larger pieces of a stream: the first event at once, the others together. Pure."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

PIECE_BYTES = 65_536


async def coalesced(blocks: AsyncIterator[str], max_bytes: int | None) -> AsyncIterator[str]:
    """The same server-sent events, the first alone, the rest joined into pieces of about 64 KiB.

    Past ``max_bytes`` the stream ends with an error event and its source is closed.
    """
    held: list[str] = []
    size, total = PIECE_BYTES, 0  # so that the first goes out alone
    async with contextlib.AsyncExitStack() as stack:
        if close := getattr(blocks, "aclose", None):
            stack.push_async_callback(close)
        async for block in blocks:
            held.append(block)
            size, total = size + len(block), total + len(block)
            if max_bytes is not None and total > max_bytes:
                yield _too_long(max_bytes)
                return
            if size >= PIECE_BYTES:
                yield "".join(held)
                held, size = [], 0
    if held:
        yield "".join(held)


def _too_long(max_bytes: int) -> str:
    return f'data: {{"error": {{"message": "the stream is longer than {max_bytes} bytes", "code": 500}}}}\n\n'
