"""What share groups keep, where it cannot be believed: dropped, and their work comes again."""

from contextlib import suppress
from urllib.parse import unquote

from bus.check.acks import acks_files
from bus.directory import BusDirectory, offsets_name
from bus.errors import CorruptSegmentError
from bus.kept_acks import SUFFIX, believed
from bus.repair.aside import Aside
from bus.repair.done import Log
from bus.traces import tables
from bus.twofold import COPY_SUFFIX


def renew_acks(directory: BusDirectory, log: Log, aside: Aside) -> None:
    """Mend what is good in one of two places, and move away what is good in none."""
    for file in acks_files(directory):
        relative = f"groups/{file}"
        trouble = _trouble(directory, relative, unquote(file.removesuffix(SUFFIX)))
        if not trouble:
            continue
        kept = ""
        for one in (relative + COPY_SUFFIX, relative):
            with suppress(FileNotFoundError):
                kept = aside.move(one)
        what = f"{trouble}; what the group had done behind its committed offset comes again"
        log.add(relative, what, lost=True, kept=kept)


def _trouble(directory: BusDirectory, relative: str, group: str) -> str:
    try:
        directory.mend_truth(relative)
        content = directory.read_truth(relative)
        believed(content or {}, group, _group_id(directory, group))
    except (CorruptSegmentError, ValueError) as error:
        return str(error)
    return ""


def _group_id(directory: BusDirectory, group: str) -> int:
    """Raises ValueError if there is no such group."""
    wanted = offsets_name(group)
    for _, group_id, file in tables(directory.path):
        if file.name == wanted:
            return group_id
    raise ValueError(f"there is no group {group!r}")
