"""The small files of truth, which are kept twice (`bus.twofold`): each must verify.

A copy that is missing or behind is no damage: its writer died, and the next broker writes it.
"""

import os
from typing import Any

from bus import files, identity, twofold
from bus.catalog import NEXT_ID_FILE
from bus.check.damage import Findings
from bus.check.files import number_in
from bus.directory import EPOCH_FILE, BusDirectory
from bus.errors import BusError
from bus.wall_clock import CLOCK_FILE


def check_counters(directory: BusDirectory, findings: Findings) -> None:
    """Check bus.json, the epoch and the next id; and that a broker can have its clock.json."""
    _, trouble = _look_for(directory.fd, CLOCK_FILE)
    if trouble:
        findings.inside(CLOCK_FILE).add(0, trouble)
    _read(directory.fd, identity.BUS_FILE, identity.BUS_FILE, findings.inside(identity.BUS_FILE))
    for name, field in ((EPOCH_FILE, "epoch"), (NEXT_ID_FILE, "next_id")):
        where = findings.inside(name)
        values, is_there = _read(directory.fd, name, directory.seal(name), where)
        if values is not None:
            number_in(values, field, where, least=1)
        elif not is_there and _was_used(directory):
            where.add(0, "the file is missing, and its copy too")


def _was_used(directory: BusDirectory) -> bool:
    """True if there is a topic or a group: a broker made it, and gave it an id."""
    paths = (directory.topics_path, directory.groups_path)
    return any(path.is_dir() and any(path.iterdir()) for path in paths)


def read_object(
    directory: BusDirectory, relative: str, findings: Findings
) -> dict[str, Any] | None:
    """What a file of truth says, or its copy; None, with the reason noted, if neither does."""
    *parents, name = relative.split("/")
    try:
        fd = directory.open_below(*parents)
    except BusError as error:
        findings.add(0, f"cannot be read: {error}")
        return None
    try:
        values, is_there = _read(fd, name, directory.seal(relative), findings)
        if not is_there:
            findings.add(0, "the file is missing, and its copy too")
        return values
    finally:
        os.close(fd)


def _read(fd: int, name: str, seal: str, findings: Findings) -> tuple[dict[str, Any] | None, bool]:
    """What the two say, and whether any of them is there."""
    value, trouble = _load(fd, name, seal)
    copy, copy_trouble = _load(fd, name + twofold.COPY_SUFFIX, seal)
    if copy_trouble:
        findings.inside(findings.file + twofold.COPY_SUFFIX).add(0, copy_trouble)
    if trouble or (value is None and copy is not None):
        is_good = "good" if copy is not None else "no good either"
        findings.add(0, f"{trouble or 'the file is missing'}; its copy is {is_good}")
    return value if value is not None else copy, bool(value or copy or trouble or copy_trouble)


def _load(fd: int, name: str, seal: str) -> tuple[dict[str, Any] | None, str]:
    data, trouble = _look_for(fd, name)
    try:
        return (None if data is None else twofold.decode(data, seal)), trouble
    except (ValueError, RecursionError) as error:
        return None, f"cannot be believed: {error}"


def _look_for(fd: int, name: str) -> tuple[bytes | None, str]:
    try:
        return files.read_bytes(fd, name, links_max=2 if name == identity.BUS_FILE else 1), ""
    except BusError as error:
        return None, str(error)
