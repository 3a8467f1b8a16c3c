"""Clients that stop reading their stream."""

from __future__ import annotations

import asyncio

from starlette.types import Message, Send


class Patience:
    """``send`` for a stream that gives a client up which takes nothing for ``timeout_s``.

    A client that stops reading fills the socket's buffer, and ``send`` then waits for ever, with an engine behind
    it. One timer a stream looks at the pending ``send``; a chunk that goes out costs two assignments.
    """

    def __init__(self, send: Send, timeout_s: float) -> None:
        self._send, self._timeout_s = send, timeout_s
        self._loop = asyncio.get_running_loop()
        self._pending_since: float | None = None
        self._task = asyncio.current_task()
        self._timer: asyncio.TimerHandle | None = None
        self.lost = False

    async def send(self, message: Message) -> None:
        """Pass on."""
        self._pending_since = self._loop.time()
        try:
            await self._send(message)
        finally:
            self._pending_since = None

    async def __aenter__(self) -> Patience:
        """Begin to look."""
        self._look()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> bool:
        """Stop looking. A cancellation of our own ends here: for the rest of the program the client has left."""
        assert self._timer is not None
        self._timer.cancel()
        if self.lost and isinstance(error, asyncio.CancelledError) and self._task is not None:
            return self._task.uncancel() == 0
        return False

    def _look(self) -> None:
        now = self._loop.time()
        if self._pending_since is not None and now - self._pending_since >= self._timeout_s:
            self.lost = True
            assert self._task is not None
            self._task.cancel()
            return
        due = (self._pending_since or now) + self._timeout_s
        self._timer = self._loop.call_at(due, self._look)
