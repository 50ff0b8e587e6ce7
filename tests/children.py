"""Child processes that a test can talk to, stop and kill; none of them outlives its test."""

import contextlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from bus.autostart import is_readable

Report = Callable[[Any], None]
Body = Callable[[Report], None]
Fork = Callable[[Body], "Child"]


class Child:
    """A forked process that runs `body(report)`; what it reports comes out of `next()`."""

    def __init__(self, body: Body) -> None:
        self._reader, writer = os.pipe()
        self._buffer = b""
        self.exit_code: int | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._reader)
            os._exit(_run(body, writer))
        os.close(writer)

    def next(self, timeout_s: float = 20.0) -> Any:
        """What the child reports next. Fails the test if it ends, or says nothing for so long."""
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not is_readable(self._reader, left):
                raise AssertionError(f"child {self.pid} said nothing for {timeout_s} s")
            data = os.read(self._reader, 1 << 16)
            if not data:
                raise AssertionError(f"child {self.pid} ended with {self.wait()}, and said nothing")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    def has_news(self) -> bool:
        """True if `next` would not wait."""
        return b"\n" in self._buffer or is_readable(self._reader, 0.0)

    def rest(self) -> list[Any]:
        """Everything that the child still reports until it ends."""
        while data := os.read(self._reader, 1 << 16):
            self._buffer += data
        lines, self._buffer = self._buffer.split(b"\n"), b""
        return [json.loads(line) for line in lines[:-1]]  # the last one is empty, or cut by a kill

    def send(self, number: int) -> None:
        """A signal."""
        os.kill(self.pid, number)

    def kill(self) -> int:
        """kill -9, and its end."""
        self.send(signal.SIGKILL)
        return self.wait()

    def wait(self, timeout_s: float = 20.0) -> int:
        """The exit code, -9 after kill -9."""
        deadline = time.monotonic() + timeout_s
        while self.exit_code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.exit_code = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > deadline:
                raise AssertionError(f"child {self.pid} did not end within {timeout_s} s")
            else:
                time.sleep(0.002)
        return self.exit_code

    def end(self) -> None:
        """Whatever it is doing, it is over."""
        if self.exit_code is None:
            with contextlib.suppress(ProcessLookupError):
                self.send(signal.SIGKILL)
            self.wait()
        os.close(self._reader)


def _run(body: Body, writer: int) -> int:
    def report(value: Any) -> None:
        os.write(writer, json.dumps(value).encode() + b"\n")

    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.alarm(0)
    try:
        body(report)
    except BaseException:  # noqa: BLE001 - a child must not run on into pytest
        traceback.print_exc()
        sys.stderr.flush()
        return 1
    return 0


@contextmanager
def family() -> Iterator[Fork]:
    """A function that forks children; they end with the block."""
    born: list[Child] = []

    def fork(body: Body) -> Child:
        born.append(Child(body))
        return born[-1]

    try:
        yield fork
    finally:
        for child in born:
            child.end()
