"""What stands in the place of a file or directory of the bus, and is none: moved away.

A broker refuses to open what is no regular file of its own, and says so. Here it is moved aside,
not opened; a copy or a rebuild takes its place.
"""

import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from bus.repair.aside import Aside
from bus.repair.done import Log

_ROOT_FILES: Final = (
    *("bus.json", "epoch", "next_id", "runtime.json", "clock.json"),
    *("broker.lock", "clients.lock"),
)
_PARTITION_FILE: Final = re.compile(r"state\.json(\.copy)?|\d{20}\.log|replica\.lock")
_GROUP_FILE: Final = re.compile(r"[^.].*\.(offsets|acks)(\.copy)?")

#: a path, what its mode must satisfy, and what that is called
_Expected = tuple[str, Callable[[int], bool], str]


def clear_plants(root: Path, log: Log, aside: Aside) -> None:
    """Move away all that is of the wrong kind. Raises OSError."""
    for relative, is_kind, kind in _expected(root):
        try:
            mode = os.lstat(root / relative).st_mode
        except (FileNotFoundError, NotADirectoryError):
            continue
        if not is_kind(mode):
            kept = aside.move(relative)
            log.add(relative, f"it was no {kind}", kept=kept)


def clear_hot_plants(hot_path: Path, log: Log, aside: Aside) -> None:
    """The same in the hot directory, where all are regular files."""
    for name in sorted(os.listdir(hot_path)):
        if not stat.S_ISREG(os.lstat(hot_path / name).st_mode):
            kept = aside.take(hot_path / name)
            log.add(str(hot_path / name), "it was no regular file", kept=kept)


def _expected(root: Path) -> Iterator[_Expected]:
    """Path and kind of all that may be there; a directory before what is in it."""
    for name in _ROOT_FILES:
        yield name, stat.S_ISREG, "regular file"
        yield f"{name}.copy", stat.S_ISREG, "regular file"
    for name in ("topics", "groups"):
        yield name, stat.S_ISDIR, "directory"
    for name in _names(root / "groups"):
        if _GROUP_FILE.fullmatch(name):
            yield f"groups/{name}", stat.S_ISREG, "regular file"
    for topic in _names(root / "topics"):
        yield f"topics/{topic}", stat.S_ISDIR, "directory"
        yield from _in_topic(root, f"topics/{topic}")


def _in_topic(root: Path, relative: str) -> Iterator[_Expected]:
    for name in _names(root / relative):
        if name in ("topic.json", "topic.json.copy"):
            yield f"{relative}/{name}", stat.S_ISREG, "regular file"
        if name.isdigit():
            yield f"{relative}/{name}", stat.S_ISDIR, "directory"
            for file in _names(root / relative / name):
                if _PARTITION_FILE.fullmatch(file):
                    yield f"{relative}/{name}/{file}", stat.S_ISREG, "regular file"


def _names(path: Path) -> list[str]:
    """What is in a directory now; nothing if it is a link or none."""
    if path.is_symlink() or not path.is_dir():
        return []
    return sorted(os.listdir(path))
