"""Tells the tracer where each thread is: a number for its stack of Python lines.

A loop over a hundred files makes the same system call from the same place a hundred times; what
matters is each place, with the way that led there. Two words of this process's memory say it for
each thread: the number of the stack, and how often that changed. The tracer reads them (inject.c)
at each system call; several calls of one name between two changes are told apart by their order.

The numbers are the same in each process that is forked from one that has imported this module, and
in the next run of the same source.
"""

import ctypes
import os
import sys
import threading
import zlib
from types import CodeType, FrameType
from typing import Any, Final

#: Threads of a process whose ids differ by a multiple of it would share their words.
THREADS: Final = 4096
_MASK: Final = (1 << 64) - 1
_MIX: Final = 0x9E3779B97F4A7C15
_words = (ctypes.c_uint64 * (2 * THREADS + 1))()
#: This word is set by the tracer once it has seen enough.
_ENOUGH: Final = 2 * THREADS
_local = threading.local()
#: Each code's number; with the code, so that its id is not given to another one.
_codes: dict[int, tuple[int, CodeType]] = {}


class _Thread:
    """Where a thread's words are, and what the first of them says."""

    def __init__(self) -> None:
        self.stack = 1
        self.settle()

    def settle(self) -> None:
        """In the words of the thread that runs: after a fork it has another id."""
        self._at = 2 * (threading.get_native_id() % THREADS)
        self.show(self.stack)

    def show(self, stack: int) -> None:
        self.stack = _words[self._at] = stack
        _words[self._at + 1] += 1


def address() -> int:
    """Of the first word; the same in forked processes."""
    return ctypes.addressof(_words)


def watch() -> None:
    """From here on, for this process, its threads and those that it forks. It slows them down."""
    os.register_at_fork(after_in_child=_settle)
    threading.settrace(_enter)
    sys.settrace(_enter)


def _here() -> _Thread:
    if not hasattr(_local, "thread"):
        _local.thread = _Thread()
    thread: _Thread = _local.thread
    return thread


def _settle() -> None:
    _here().settle()


def _number(code: CodeType) -> int:
    known = _codes.get(id(code))
    if known is None:
        text = f"{os.path.basename(code.co_filename)} {code.co_qualname} {code.co_firstlineno}"
        known = _codes[id(code)] = zlib.crc32(text.encode()) << 20, code
    return known[0]


def _enter(frame: FrameType, _event: str, _argument: Any) -> Any:
    """A function begins, or a generator goes on."""
    if _words[_ENOUGH]:
        sys.settrace(None)
        return None
    thread, code = _here(), frame.f_code
    below, number = thread.stack, _number(code)

    def step(frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "line":
            thread.show((below * _MIX ^ (number + frame.f_lineno)) & _MASK)
        elif event == "return":
            thread.show(below)
        return step

    thread.show((below * _MIX ^ number) & _MASK)
    return step
