"""Where a repair keeps what it takes out of a bus or changes: BUS/damaged/TIME/, by relative path.

Nothing that holds bytes is removed by a repair. A copy is on disk before the original is changed.
"""

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

from bus import files

DIRECTORY = "damaged"


class Aside:
    """The place for one repair; made when the first thing goes there."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._place = root / DIRECTORY / datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")

    def move(self, relative: str) -> str:
        """Take a file, link, or directory out of the bus; where it is now."""
        target = self._target(relative)
        os.rename(self._root / relative, target)
        files.sync_parent(target)
        files.sync_parent(self._root / relative)
        return self._name(target)

    def take(self, path: Path) -> str:
        """As `move`, from another filesystem."""
        target = self._target(f"hot/{path.name}")
        shutil.move(path, target)
        return self._name(target)

    def copy(self, relative: str) -> str:
        """Keep the bytes of a file that is about to be changed; where they are."""
        target = self._target(relative)
        shutil.copyfile(self._root / relative, target)
        fd = os.open(target, os.O_RDONLY)
        try:
            os.fchmod(fd, 0o600)
            os.fsync(fd)
        finally:
            os.close(fd)
        files.sync_parent(target)
        return self._name(target)

    def _target(self, relative: str) -> Path:
        target = self._place / relative
        for directory in reversed(
            [one for one in target.parents if one.is_relative_to(self._root)]
        ):
            directory.mkdir(mode=0o700, exist_ok=True)
        return target

    def _name(self, target: Path) -> str:
        return str(target.relative_to(self._root))
