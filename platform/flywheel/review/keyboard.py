"""Single keys and edited lines from a POSIX terminal.

Libraries for single keys set the terminal anew for each key and throw away what was typed meanwhile, so a fast
reviewer loses keys; here the terminal is set once for the whole sitting.
"""

from __future__ import annotations

import os
import select
import termios
import tty
from types import TracebackType
from typing import Any, Final, Self

QUIT: Final = "q"
_ESCAPE: Final = b"\x1b"
_SEQUENCE_SECONDS: Final = 0.02
"""An arrow or function key sends its bytes at once; a pause this long ends the sequence."""


class Keyboard:
    """The keyboard of one terminal, as a context manager that leaves the terminal as it found it."""

    def __init__(self, descriptor: int) -> None:
        self._fd = descriptor
        self._found: list[Any] = []

    def __enter__(self) -> Self:
        self._found = termios.tcgetattr(self._fd)
        self._listen()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def key(self) -> str:
        """The next key; ``QUIT`` for Ctrl-C, Ctrl-D and a closed terminal, an empty text for arrows and the like."""
        try:
            byte = os.read(self._fd, 1)
            if byte == _ESCAPE:
                self._drop_sequence()
                return ""
        except (KeyboardInterrupt, OSError):  # OSError: the terminal was closed
            return QUIT
        return QUIT if byte in {b"", b"\x03", b"\x04"} else byte.decode("ascii", "replace")

    def line(self, served: str) -> str:
        """One line of text; it starts as ``served``, to be edited, where the platform has readline.

        Ctrl-C and Ctrl-D give an empty line.
        """
        try:
            import readline
        except ImportError:  # the reviewer types the whole answer
            readline = None
        if readline is not None:
            readline.set_startup_hook(lambda: readline.insert_text(served))
        self._restore()
        try:
            return input("correct answer> ")
        except (EOFError, KeyboardInterrupt):
            return ""
        finally:
            self._listen()
            if readline is not None:
                readline.set_startup_hook(None)

    def _listen(self) -> None:
        tty.setcbreak(self._fd, termios.TCSADRAIN)

    def _restore(self) -> None:
        termios.tcsetattr(self._fd, termios.TCSADRAIN, self._found)

    def _drop_sequence(self) -> None:
        while select.select([self._fd], [], [], _SEQUENCE_SECONDS)[0]:
            os.read(self._fd, 1)
