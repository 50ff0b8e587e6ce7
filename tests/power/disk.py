"""A disk that forgets: what a power loss may leave of a recorded sequence of operations.

    fsync, fdatasync of a file    its bytes and its length are certain
    fsync of a directory          its names are certain

Nothing else is. A page of 4 KiB written since the last sync is there in any version it has had,
old or new, each 512-byte sector for itself if it is torn; a length is any it has had; of a
directory's changes any subset has happened, those to one name in their order. A name may be there
without its file's bytes, and the bytes without the name. This is less than what ext4 promises, on
purpose: what holds here does not lean on a filesystem's habits.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from tests.power.operations import (
    PAGE,
    ZEROS,
    Link,
    MakeDir,
    Mark,
    Operation,
    Rename,
    Resize,
    SyncDir,
    SyncFile,
    Tree,
    Unlink,
    Write,
)

SECTOR = 512


class Habits(NamedTuple):
    """How one power loss treats what was not synced, as chances from 0 to 1."""

    #: a change is there, in one version or another
    keep: float
    #: it is there in its newest version
    newest: float
    #: a page is torn: each sector has a version of its own
    torn: float
    #: a change of a directory is there
    names: float


@dataclass
class Image:
    """What is on the disk when the machine comes up again, and how that came about."""

    tree: Tree
    kept: list[str]


class Disk:
    """Plays operations; says at any moment what a power loss could leave."""

    def __init__(self, base: Tree) -> None:
        """`base` is on the disk for certain."""
        self.root = base.root
        #: every version of a page or a length since the last sync; the first one is certain
        self._pages = {
            file: {page: [data] for page, data in pages.items()}
            for file, pages in base.pages.items()
        }
        self._sizes = {file: [size] for file, size in base.sizes.items()}
        self._names = {directory: dict(names) for directory, names in base.names.items()}
        self._changes: dict[int, list[Link | Unlink | Rename]] = {}
        self._dirty: set[int] = set()

    def play(self, operations: Iterable[Operation]) -> None:
        """Go on by these operations."""
        for operation in operations:
            match operation:
                case Write(file, page, data):
                    self._pages.setdefault(file, {}).setdefault(page, [ZEROS]).append(data)
                    self._dirty.add(file)
                case Resize(file, size):
                    self._resize(file, size)
                case SyncFile(file):
                    self._sync(file)
                case SyncDir(directory):
                    for change in self._changes.pop(directory, []):
                        _apply(change, self._names[directory])
                case MakeDir(directory):
                    self._names[directory] = {}
                case Link(directory, _, target):
                    self._changes.setdefault(directory, []).append(operation)
                    if target not in self._names:
                        self._pages.setdefault(target, {})
                        self._sizes.setdefault(target, [0])
                case Unlink(directory) | Rename(directory):
                    self._changes.setdefault(directory, []).append(operation)
                case Mark():
                    continue

    def _resize(self, file: int, size: int) -> None:
        self._sizes.setdefault(file, [0]).append(size)
        self._dirty.add(file)
        for page, versions in self._pages.get(file, {}).items():
            if page * PAGE >= size:
                versions.append(ZEROS)

    def _sync(self, file: int) -> None:
        if file in self._dirty:
            self._dirty.discard(file)
            for versions in (*self._pages[file].values(), self._sizes[file]):
                del versions[:-1]

    # ------------------------------------------------------------------------------ power loss

    def crash(self, habits: Habits, dice: Random) -> Image:
        """One of the many states that a power loss at this moment may leave."""
        tree = Tree(self.root, names={number: dict(now) for number, now in self._names.items()})
        kept: list[str] = []
        for directory in sorted(self._changes):
            for change in self._changes[directory]:
                if dice.random() < habits.names:
                    _apply(change, tree.names[directory])
                    kept.append(_told(change))
        paths = tree.paths()
        for file in self._sizes:
            if file in paths:
                self._leave(tree, file, habits, dice, kept, paths[file])
        return Image(tree, kept)

    def _leave(
        self,
        tree: Tree,
        file: int,
        habits: Habits,
        dice: Random,
        kept: list[str],
        path: str,
    ) -> None:
        sizes = self._sizes[file]
        at = _version(len(sizes), habits, dice)
        size = tree.sizes[file] = sizes[at]
        if len(sizes) > 1:
            kept.append(f"{path}: length {size} of {sizes}")
        pages = tree.pages[file] = {}
        for page, versions in self._pages[file].items():
            data, told = _leave_page(versions, habits, dice)
            if told:
                kept.append(f"{path}: page {page} {told}")
            if data != ZEROS and page * PAGE < size:
                pages[page] = data


def _leave_page(versions: list[bytes], habits: Habits, dice: Random) -> tuple[bytes, str]:
    """A page after the power loss, and in words what became of it if that is not certain."""
    if len(versions) == 1:
        return versions[0], ""
    if dice.random() < habits.torn:
        chosen = [dice.randrange(len(versions)) for _ in range(0, PAGE, SECTOR)]
        parts = (versions[at][i * SECTOR :][:SECTOR] for i, at in enumerate(chosen))
        return b"".join(parts), f"torn, sectors of versions {chosen}"
    at = _version(len(versions), habits, dice)
    return versions[at], f"version {at} of {len(versions) - 1}" if at else ""


def _version(count: int, habits: Habits, dice: Random) -> int:
    """Which of `count` versions is there; 0 is the certain one."""
    if count == 1 or dice.random() >= habits.keep:
        return 0
    return count - 1 if dice.random() < habits.newest else dice.randrange(1, count)


def _apply(change: Link | Unlink | Rename, names: dict[str, int]) -> None:
    match change:
        case Link(_, name, target):
            names[name] = target
        case Unlink(_, name):
            names.pop(name, None)
        case Rename(_, old, name, target):
            names.pop(old, None)
            names[name] = target


def _told(change: Link | Unlink | Rename) -> str:
    match change:
        case Link(directory, name, target):
            return f"directory {directory}: {name} named (file {target})"
        case Unlink(directory, name):
            return f"directory {directory}: {name} removed"
        case Rename(directory, old, name):
            return f"directory {directory}: {old} renamed to {name}"
