"""The copies of the groups' offset tables: each must verify, and its commits be in the table."""

import os
from collections.abc import Sequence

from bus.check.committed import GroupOffsets
from bus.check.damage import Findings
from bus.directory import BROKER_LOCK, BusDirectory
from bus.errors import BusError
from bus.liveness import any_locked
from bus.offset_copies import CopiedCommits, copy_name, read_copy
from bus.offset_mending import table_files


def check_offset_copies(
    directory: BusDirectory, groups: Sequence[GroupOffsets], findings: Findings
) -> None:
    """Check every copy; while a broker runs, a commit in the copy alone was just deleted."""
    if not directory.groups_path.is_dir():
        return
    at_rest = not _is_running(directory)
    by_file = {group.file: group for group in groups}
    groups_fd = directory.open_groups()
    try:
        for file in sorted(table_files(groups_fd)):
            where = findings.inside(f"groups/{copy_name(file)}")
            try:
                copy = read_copy(directory, groups_fd, file)
            except BusError as error:
                where.add(0, str(error))
                continue
            if copy is not None and at_rest:
                table = findings.inside(f"groups/{file}")
                _compare(copy, by_file.get(table.file), directory, table)
    finally:
        os.close(groups_fd)


def _compare(
    copy: CopiedCommits, group: GroupOffsets | None, directory: BusDirectory, findings: Findings
) -> None:
    if group is None:
        if not (directory.path / findings.file).exists():
            findings.add(0, "the file is missing; its copy is good")
        return
    there = {(one.topic_id, one.partition) for one in group.committed}
    for topic, partition in sorted(copy.commits.keys() - there):
        what = f"the commit of topic id {topic} partition {partition} is gone; the copy has"
        findings.add(0, f"{what} offset {copy.commits[topic, partition]}")


def _is_running(directory: BusDirectory) -> bool:
    if not (directory.path / BROKER_LOCK).exists():
        return False
    fd = directory.open_lock(BROKER_LOCK)
    try:
        return any_locked(fd)
    finally:
        os.close(fd)
