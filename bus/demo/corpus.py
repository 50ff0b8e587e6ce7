"""Corpus: every source file of the installed Python standard library."""

import random
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

#: Third-party packages live below the standard library's directory, but are none of it.
_FOREIGN = frozenset({"site-packages", "dist-packages"})


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file: `name` is its path from the library's directory."""

    name: str
    path: Path
    bytes: int


def standard_library() -> list[SourceFile]:
    """All its *.py files, sorted by name; the same list in every process."""
    root = Path(sysconfig.get_path("stdlib"))
    files = []
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if not _FOREIGN.intersection(relative.parts) and path.is_file():
            files.append(SourceFile(relative.as_posix(), path, path.stat().st_size))
    return files


def chosen(
    files: Sequence[SourceFile], count: int | None = None, seed: int | None = None
) -> list[SourceFile]:
    """`count` of the files (None: all): the first ones, or with a seed some at random."""
    if seed is None:
        return list(files[:count])
    size = len(files) if count is None else min(count, len(files))
    return random.Random(seed).sample(files, size)
