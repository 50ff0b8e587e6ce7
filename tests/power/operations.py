"""What a process does to a disk, as values; and files and directories as they stand."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

PAGE = 4096
ZEROS = bytes(PAGE)


class Write(NamedTuple):
    """A page of a file, as it stands after the write."""

    file: int
    page: int
    data: bytes


class Resize(NamedTuple):
    file: int
    size: int


class SyncFile(NamedTuple):
    file: int


class SyncDir(NamedTuple):
    directory: int


class MakeDir(NamedTuple):
    """A directory that has no name yet; a Link follows."""

    directory: int


class Link(NamedTuple):
    """A name in a directory, new or for another file than before."""

    directory: int
    name: str
    target: int


class Unlink(NamedTuple):
    directory: int
    name: str


class Rename(NamedTuple):
    """`old` becomes `name`, in the same directory and in one piece."""

    directory: int
    old: str
    name: str
    target: int


class Mark(NamedTuple):
    """Something was promised, or came to be, at this moment: see promises.py."""

    what: Any


Change = Link | Unlink | Rename
Operation = Write | Resize | SyncFile | SyncDir | MakeDir | Change | Mark


@dataclass
class Tree:
    """Files and directories by number: sizes, pages that are not all zero, names."""

    root: int
    sizes: dict[int, int] = field(default_factory=dict)
    pages: dict[int, dict[int, bytes]] = field(default_factory=dict)
    names: dict[int, dict[str, int]] = field(default_factory=dict)

    @classmethod
    def read(cls, root: Path) -> "Tree":
        """What is below a directory now; files and directories go by their inode numbers."""
        tree = cls(root.stat().st_ino)
        for place, directories, files in os.walk(root):
            entries = tree.names.setdefault(os.stat(place).st_ino, {})
            for name in directories:
                entries[name] = Path(place, name).stat().st_ino
            for name in files:
                path = Path(place, name)
                entries[name] = number = path.stat().st_ino
                tree.sizes[number] = path.stat().st_size
                tree.pages[number] = dict(pages_of(path.read_bytes()))
        return tree

    def write(self, path: Path) -> None:
        """Make all of it below `path`, an empty directory."""
        self._write(self.root, path)

    def _write(self, directory: int, path: Path) -> None:
        for name, target in self.names.get(directory, {}).items():
            if target in self.names:
                (path / name).mkdir(mode=0o700)
                self._write(target, path / name)
            else:
                self._write_file(target, path / name)

    def _write_file(self, number: int, path: Path) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            for page, data in self.pages[number].items():
                os.pwrite(fd, data, page * PAGE)
            os.ftruncate(fd, self.sizes[number])  # last: a page may reach beyond the end
        finally:
            os.close(fd)

    def paths(self) -> dict[int, str]:
        """A path of every file and directory that has one, by number."""
        found = {self.root: "."}
        pending = [self.root]
        while pending:
            directory = pending.pop()
            for name, target in self.names.get(directory, {}).items():
                found[target] = f"{found[directory]}/{name}".removeprefix("./")
                if target in self.names:
                    pending.append(target)
        return found


def pages_of(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The pages of a file's bytes that are not all zero; the last one is filled up."""
    for at in range(0, len(data), PAGE):
        page = data[at : at + PAGE].ljust(PAGE, b"\0")
        if page != ZEROS:
            yield at // PAGE, page
