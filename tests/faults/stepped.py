"""A broker that dies at a given line of its own code.

    python -m tests.faults.stepped LINES DIR

Runs `bus.supervisor` and counts the lines of the bus that it executes; before line number LINES
it is gone by SIGKILL. 0: it lives. The count stands in DIR.lines when it has ended by itself.
"""

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from bus import supervisor

_PACKAGE = str(Path(supervisor.__file__).parent)
#: Loops over tables and checks of values: they read only, and would be most of the lines.
_READING = frozenset({"_at", "_is_attached", "_checked", "<genexpr>", "<listcomp>", "path_of"})
_READING_FILES = ("/config.py", "/members.py")


class Steps:
    """A trace function that counts lines, and ends the process before one of them."""

    def __init__(self, last: int) -> None:
        self.count = 0
        self._last = last

    def __call__(self, frame: FrameType, event: str, _argument: object) -> Any:
        if event == "call":
            return self if self._counts(frame) else None
        if event == "line":
            self.count += 1
            if self.count == self._last:
                os.kill(os.getpid(), signal.SIGKILL)
        return self

    def _counts(self, frame: FrameType) -> bool:
        code = frame.f_code
        if code.co_name in _READING or code.co_filename.endswith(_READING_FILES):
            return False
        return code.co_filename.startswith(_PACKAGE)


def main() -> int:
    """The broker's exit code."""
    lines, path = sys.argv[1:]
    steps = Steps(int(lines))
    # a replica is a process of its own, with deaths of its own
    os.register_at_fork(after_in_child=lambda: sys.settrace(None))
    sys.settrace(steps)
    try:
        return supervisor.main([path])
    finally:
        sys.settrace(None)
        Path(f"{path}.lines").write_text(str(steps.count))


if __name__ == "__main__":
    sys.exit(main())
