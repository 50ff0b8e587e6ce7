"""Commits of a group that are lost: who may have lost one is told, instead of starting anew."""

from collections.abc import Mapping, Sequence

from bus.assignment import Partition
from bus.errors import CorruptSegmentError
from bus.offset_entries import Entry


def refuse_lost(path: str, missing: Sequence[Partition], damaged: Mapping[int, Entry]) -> None:
    """Raises CorruptSegmentError if a partition without a commit may be one of the damaged ones.

    What is left of a damaged entry may name another partition than it did, so all are suspects.
    """
    if not damaged:
        return
    names = ", ".join(f"{number} of topic id {topic}" for topic, number in missing)
    raise CorruptSegmentError(
        f"{path}: {len(damaged)} commits are damaged in both copies, and partition {names} may be"
        " one of them; say where the group goes on with: bus groups reset-offsets (or commit an"
        " offset), or give the damaged commits up with: bus check --repair"
    )
