"""What executors run in tests."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tests.waiting import eventually
from workers import Executor

_started: list[object] = []


def nothing(*_: object) -> None:
    """As little as possible."""


def add(left: int, right: int = 1) -> int:
    return left + right


def itself(value: Any) -> Any:
    return value


def my_pid(*_: object) -> int:
    return os.getpid()


def kill_me(number: int = signal.SIGKILL) -> None:
    os.kill(os.getpid(), number)


def exit_hard(code: int) -> None:
    os._exit(code)


def exit_softly(code: int) -> None:
    sys.exit(code)


def fail(text: str) -> None:
    raise LookupError(text)


def reciprocal(number: int) -> float:
    return 1 / number


def length(data: bytes) -> int:
    return len(data)


def large(nbytes: int) -> bytes:
    return bytes(nbytes)


def wait_for_file(path: Path, value: Any = None) -> Any:
    """Says that it has begun by `path`.begun, and goes on when there is `path`."""
    with open(f"{path}.begun", "a") as file:
        file.write("x")
    eventually(path.exists, 30.0)
    return value


def begun(path: Path) -> int:
    """How often `wait_for_file` has begun."""
    file = Path(f"{path}.begun")
    return len(file.read_text()) if file.exists() else 0


def die_the_first_time(path: Path) -> int:
    """Dies if nobody has begun before."""
    first = not path.exists()
    path.touch()
    if first:
        kill_me()
    return os.getpid()


def append(path: Path, text: str) -> None:
    """One write, so that lines of several processes do not mix."""
    with open(path, "a") as file:
        file.write(f"{text}\n")


class Counting:
    """A callable that counts its own calls, and the pickles that were made of it."""

    pickled = 0

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, *_: object) -> int:
        self.calls += 1
        return self.calls

    def __reduce__(self) -> Any:
        Counting.pickled += 1
        return Counting, ()


class Unpicklable:
    """Cannot be sent."""

    def __reduce__(self) -> Any:
        raise TypeError("this one stays here")


class CannotBeMade:
    """Can be sent, but not made again anywhere but where it was made."""

    def __init__(self) -> None:
        self.pid = os.getpid()

    def __reduce__(self) -> Any:
        return _made_in, (self.pid,)


def _made_in(pid: int) -> Any:
    if os.getpid() != pid:
        raise OSError("made elsewhere")
    return CannotBeMade()


class NeedsTwo(Exception):
    """Its pickle cannot be loaded: __init__ needs more than args has."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def raise_needs_two() -> None:
    raise NeedsTwo(1, 2)


def raise_unpicklable() -> None:
    error = ValueError("with a companion")
    error.companion = Unpicklable()  # type: ignore[attr-defined]
    raise error


def make_unpicklable() -> Unpicklable:
    return Unpicklable()


def make_cannot_be_made() -> CannotBeMade:
    return CannotBeMade()


def raise_interrupt() -> None:
    raise KeyboardInterrupt("not by anybody's hand")


def recurse(depth: int) -> None:
    recurse(depth + 1)


def start_with(value: object) -> None:
    """An initializer."""
    _started.append(value)


def started_with(*_: object) -> list[object]:
    return _started


def about_array(array: "np.ndarray[Any, Any]") -> tuple[float, bool, bool, int]:
    """Its sum, whether it may be written, whether it owns its memory, and this process's peak of
    memory of its own in bytes."""
    total = float(array.sum())
    status = Path("/proc/self/status").read_text()
    anonymous = next(line for line in status.splitlines() if line.startswith("RssAnon"))
    kilobytes = int(anonymous.split()[1])
    return total, bool(array.flags.writeable), bool(array.flags.owndata), kilobytes * 1024


def make_array(count: int) -> "np.ndarray[Any, Any]":
    return np.arange(count)


def sum_in_a_pool_of_its_own(numbers: list[int]) -> int:
    with Executor(1) as executor:
        return sum(executor.map(add, numbers))
