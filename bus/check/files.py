"""Files of a bus, opened read-only for the checker: mapped segments, JSON, small tables."""

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bus import files
from bus.check.damage import Findings


@contextmanager
def mapped(path: Path) -> Iterator[memoryview]:
    """The file's bytes, mapped read-only and shared; an empty file is empty.

    Raises OSError, and UnsafeDirectoryError for a file that is not ours alone.
    """
    fd = files.open_own(path, os.O_RDONLY)
    try:
        size = os.fstat(fd).st_size
        if size == 0:
            yield memoryview(b"")
            return
        with mmap.mmap(fd, size, prot=mmap.PROT_READ) as mapping, memoryview(mapping) as view:
            yield view
    finally:
        os.close(fd)


def number_in(values: dict[str, Any], name: str, findings: Findings, least: int = 0) -> int | None:
    """The whole number `name` of a JSON object, at least `least`; None, noted, if it is not so."""
    value = values.get(name)
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return value
    findings.add(0, f"{name} is {value!r}, expected a whole number from {least} up")
    return None
