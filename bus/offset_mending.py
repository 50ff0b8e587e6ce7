"""Offset tables that were damaged, truncated or lost, made whole from their copies.

| what is lost | made anew from |
|---|---|
| the header | its name is the file's; its id is in the copy, or the one that its checksum fits |
| an entry in both copies, zeroed or cut off | the copy: records since then are read again |
| the file | the copy, all of it |

A commit that the copy does not have stays damaged: who asks for it gets an error (see
`bus.offset_damage`). If nothing tells which commits there were, both files are left as they are,
and the group is refused: an empty table would be a reset in silence.
"""

import os
from contextlib import closing, suppress
from typing import Final
from urllib.parse import unquote

from bus import files
from bus.directory import BusDirectory
from bus.errors import CorruptSegmentError, UnsafeDirectoryError
from bus.native.core import LAYOUT
from bus.offset_copies import CopiedCommits, read_copy
from bus.offsets import OffsetTable, header_page, read_offsets_header
from bus.twofold import COPY_SUFFIX, Mend

SUFFIX: Final = ".offsets"
#: What is in the place of a table, and is none of this group, is kept under this name.
DAMAGED_SUFFIX: Final = ".damaged"
_PAGE: Final = LAYOUT["BUS_PAGE"]
_ID_AT: Final = LAYOUT["bus_offsets.group_id"]
_CRC_AT: Final = LAYOUT["bus_offsets.header_crc"]


def mend_groups(directory: BusDirectory, highest_id: int) -> None:
    """Make every table whole as far as can be; what was done is added to `directory.mended`.

    The caller is the bus's only process that writes to them. `highest_id` is the last id given out.
    """
    groups_fd = directory.open_groups()
    try:
        files.settle(groups_fd)  # who died over a new table left it with two names
        for file in sorted(table_files(groups_fd)):
            _Table(directory, groups_fd, file, highest_id).mend()
    finally:
        os.close(groups_fd)


def table_files(groups_fd: int) -> set[str]:
    """Every table that is there, or whose copy is."""
    names = [name.removesuffix(COPY_SUFFIX) for name in os.listdir(groups_fd)]
    return {name for name in names if name.endswith(SUFFIX) and not name.startswith(".")}


class _Table:
    """One table that may be damaged."""

    def __init__(self, directory: BusDirectory, groups_fd: int, file: str, highest_id: int) -> None:
        self._directory = directory
        self._groups_fd = groups_fd
        self._file = file
        self._highest_id = highest_id
        self._name = unquote(file.removesuffix(SUFFIX))
        self._path = directory.groups_path / file

    def mend(self) -> None:
        copy, copy_trouble = self._read_copy()
        trouble = self._header_trouble()
        if trouble and not self._make_header(copy, trouble):
            self._refuse(trouble)
            return
        if size_trouble := self._cut(copy):
            self._refuse(size_trouble)
            return
        with closing(OffsetTable.open(self._groups_fd, self._name)) as table:
            if copy_trouble and not table.read():
                self._refuse(f"it holds no commit, and {copy_trouble}")
                return
            self._restore(table, copy)

    def _note(self, text: str, *, lost: bool = False) -> None:
        self._directory.mended.append(Mend(f"{self._path}: {text}", lost))

    def _refuse(self, trouble: str) -> None:
        text = (
            f"{self._path}: {trouble}; which commits were in it cannot be told: restore it from a"
            " backup, or begin the group anew with: bus check --repair"
        )
        self._directory.refused[self._name] = text
        self._directory.mended.append(Mend(f"{text}; the group is refused until then", lost=True))

    def _read_copy(self) -> tuple[CopiedCommits | None, str]:
        try:
            return read_copy(self._directory, self._groups_fd, self._file), ""
        except CorruptSegmentError as error:
            self._note(f"its copy will be written again: {error}")
            return None, str(error)

    # ------------------------------------------------------------------------------ header

    def _header_trouble(self) -> str:
        """Why the header cannot be believed, "" if it can."""
        try:
            fd = files.open_own(self._file, os.O_RDONLY, dir_fd=self._groups_fd)
        except FileNotFoundError:
            return "the file was missing"
        except IsADirectoryError as error:
            raise UnsafeDirectoryError(f"{self._path} is a directory; move it away") from error
        try:
            header = read_offsets_header(fd)
        except CorruptSegmentError as error:
            return str(error)
        finally:
            os.close(fd)
        if (header.bus_id, header.name) == (self._directory.bus_id, self._name):
            return ""
        return f"it is the table of group {header.name!r} of bus {header.bus_id:016x}"

    def _make_header(self, copy: CopiedCommits | None, trouble: str) -> bool:
        """False if that cannot be done without losing commits unseen."""
        group_id = self._id() if copy is None else copy.group_id
        if group_id is None:
            return False
        if trouble.startswith("it is the table of"):
            os.rename(
                self._file,
                self._file + DAMAGED_SUFFIX,
                src_dir_fd=self._groups_fd,
                dst_dir_fd=self._groups_fd,
            )
            trouble += f"; it was kept as {self._file}{DAMAGED_SUFFIX}"
        fd = files.open_file(self._file, os.O_RDWR | os.O_CREAT, dir_fd=self._groups_fd)
        try:
            size = max(os.fstat(fd).st_size, 3 * _PAGE)
            files.allocate(fd, size)
            os.pwrite(fd, header_page(self._name, self._directory.bus_id, group_id), 0)
            os.fsync(fd)
        finally:
            os.close(fd)
        files.sync_directory(self._groups_fd)
        self._note(f"{trouble}; its header was made anew, group id {group_id}")
        return True

    def _id(self) -> int | None:
        """The group's id, if the rest of the header proves it."""
        page = self._first_page()
        stored = int.from_bytes(page[_CRC_AT : _CRC_AT + 4], "little")
        raw = int.from_bytes(page[_ID_AT : _ID_AT + 8], "little")
        for one in [raw, *range(1, self._highest_id + 1)]:
            made = header_page(self._name, self._directory.bus_id, one)
            if int.from_bytes(made[_CRC_AT : _CRC_AT + 4], "little") == stored:
                return int(one)
        if page == _with_crc(header_page(self._name, self._directory.bus_id, raw), stored):
            return raw
        return None

    def _first_page(self) -> bytes:
        with suppress(FileNotFoundError):
            fd = files.open_own(self._file, os.O_RDONLY, dir_fd=self._groups_fd)
            try:
                return os.pread(fd, _PAGE, 0).ljust(_PAGE, b"\0")
            finally:
                os.close(fd)
        return bytes(_PAGE)

    # ----------------------------------------------------------------------------- entries

    def _cut(self, copy: CopiedCommits | None) -> str:
        """A file that ends within a pair of pages gets the rest, if the copy knows the commits."""
        fd = files.open_file(self._file, os.O_RDWR, dir_fd=self._groups_fd)
        try:
            size = os.fstat(fd).st_size
            whole = _PAGE + max(1, -(-(size - _PAGE) // (2 * _PAGE))) * 2 * _PAGE
            if size == whole:
                return ""
            trouble = f"{size} bytes are no whole pages"
            if copy is None:
                return trouble
            files.allocate(fd, whole)
            os.fsync(fd)
        finally:
            os.close(fd)
        self._note(f"{trouble}; it has {whole} bytes now")
        return ""

    def _restore(self, table: OffsetTable, copy: CopiedCommits | None) -> None:
        commits = table.read()
        lost = {
            partition: (offset, b"")
            for partition, offset in (copy.commits if copy else {}).items()
            if partition not in commits
        }
        if lost:
            table.put(lost, generation=0, timestamp_ns=0)
            table.sync()
        for (topic, number), (offset, _) in sorted(lost.items()):
            self._note(
                f"the commit of partition {number} of topic id {topic} was lost; the group goes on"
                f" at offset {offset}, from its copy: some records may come again",
                lost=True,
            )
        for number in sorted(table.damaged()):
            self._note(
                f"entry {number} is damaged in both copies; a partition of group {self._name!r}"
                " without a commit is refused until it has one",
                lost=True,
            )


def _with_crc(page: bytes, crc: int) -> bytes:
    return page[:_CRC_AT] + crc.to_bytes(4, "little") + page[_CRC_AT + 4 :]
