"""Make the log of a real SQLite connection fail, or wait, at the moment it is synced or written.

The file object that SQLite holds for its write-ahead log is asked for (``SQLITE_FCNTL_JOURNAL_POINTER``) and gets
another table of methods, with ours in the place of ``xSync`` and ``xWrite``. Everything above it is as in production.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import sqlite3
from collections.abc import Callable

import pytest

SQLITE_OK, SQLITE_FULL = 0, 13
SQLITE_IOERR_FSYNC, SQLITE_IOERR_WRITE, SQLITE_READONLY = 10 | 4 << 8, 10 | 3 << 8, 8
_JOURNAL_POINTER = 28
_SYNC = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
_WRITE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int64)
_SLOTS = 20  # pointers in sqlite3_io_methods, the version number counted as one
_AT_WRITE, _AT_SYNC = 3, 5


class LogFaults:
    """``sync`` and ``write`` are called before the real ones; a code that is not 0 is what SQLite gets instead."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.sync: Callable[[], int] = lambda: SQLITE_OK
        self.write: Callable[[], int] = lambda: SQLITE_OK
        self.syncs = 0
        file = _log_file(connection)
        slot = ctypes.cast(file, ctypes.POINTER(ctypes.c_void_p))
        real = ctypes.cast(slot[0], ctypes.POINTER(ctypes.c_void_p))
        real_sync, real_write = _SYNC(real[_AT_SYNC]), _WRITE(real[_AT_WRITE])

        def sync(handle: int, flags: int) -> int:
            code = self.sync() or real_sync(handle, flags)
            self.syncs += code == SQLITE_OK
            return code

        def write(handle: int, data: int, size: int, offset: int) -> int:
            return self.write() or real_write(handle, data, size, offset)

        self._kept = (_SYNC(sync), _WRITE(write), (ctypes.c_void_p * _SLOTS)(*(real[i] for i in range(_SLOTS))))
        table = self._kept[2]
        table[_AT_SYNC] = ctypes.cast(self._kept[0], ctypes.c_void_p)
        table[_AT_WRITE] = ctypes.cast(self._kept[1], ctypes.c_void_p)
        slot[0] = ctypes.addressof(table)
        self._undo = lambda: slot.__setitem__(0, ctypes.addressof(real.contents))

    def remove(self) -> None:
        """Give the file its own methods back; call before the connection closes."""
        self._undo()


def _log_file(connection: sqlite3.Connection) -> int:
    library = ctypes.CDLL(_sqlite3.__file__)
    if not hasattr(library, "sqlite3_file_control"):
        pytest.skip("this Python holds SQLite without its C interface")
    # struct pysqlite_Connection begins with the object's head and sqlite3 *db
    database = ctypes.c_void_p.from_address(id(connection) + object.__basicsize__).value
    found = ctypes.c_void_p()
    library.sqlite3_file_control.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p]
    assert library.sqlite3_file_control(database, b"main", _JOURNAL_POINTER, ctypes.byref(found)) == SQLITE_OK
    assert found.value
    return found.value
