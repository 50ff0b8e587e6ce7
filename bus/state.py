"""What the broker remembers of a partition on disk: `topics/NAME/P/state.json`.

Truth, kept twice (`bus.twofold`), replaced atomically and synced. Written before what it allows is
allowed:

    offset_limit      no offset at or above it was ever given out. Raised on disk before it is
                      raised in shared memory, so that offsets never repeat after a power loss
                      that took records (and their offsets) with it.
    log_start_offset  the smallest offset that may still be read.
    clean_end         where the log ended at a clean stop; null while the bus runs.
    durable_end       records up to there were on disk (at least); see `bus.milestones`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from bus.directory import BusDirectory
from bus.errors import CorruptSegmentError

STATE_FILE: Final = "state.json"
#: Offsets are reserved on disk in steps of this many: one sync for 16 million records.
OFFSET_STEP: Final = 1 << 24
#: The next step is reserved when so few are left.
OFFSET_RESERVE: Final = 1 << 23

assert OFFSET_RESERVE < OFFSET_STEP


@dataclass(frozen=True, slots=True)
class CleanEnd:
    """The end of the log at a clean stop: the next offset, and the last segment's number."""

    offset: int
    number: int


@dataclass(frozen=True, slots=True)
class PartitionState:
    """The contents of one state.json. Offsets count records from 0."""

    log_start_offset: int
    offset_limit: int
    clean_end: CleanEnd | None = None
    durable_end: CleanEnd | None = None

    @property
    def witness(self) -> CleanEnd | None:
        """Records up to there were on disk, whatever the files say now; None if that is unknown."""
        return self.clean_end or self.durable_end


def offset_limit_for(log_end_offset: int) -> int:
    """The limit to reserve for a log that ends at `log_end_offset`."""
    return ((log_end_offset + OFFSET_STEP) // OFFSET_STEP + 1) * OFFSET_STEP


def needs_offsets(log_end_offset: int, offset_limit: int) -> bool:
    """True if the next step of offsets should be reserved now."""
    return log_end_offset > offset_limit - OFFSET_RESERVE


def state_path(topic: str, partition: int) -> str:
    """The file, relative to the bus directory."""
    return f"topics/{topic}/{partition}/{STATE_FILE}"


def load_state(directory: BusDirectory, topic: str, partition: int) -> PartitionState | None:
    """The state of a partition, or None if it was never stored (the partition is new).

    Raises CorruptSegmentError when the file is there but does not say what it must.
    """
    path = state_path(topic, partition)
    values = directory.read_truth(path)
    if values is None:
        return None
    try:
        return PartitionState(
            int(values["log_start_offset"]),
            int(values["offset_limit"]),
            _end_in(values["clean_end"]),
            _end_in(values["durable_end"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptSegmentError(
            f"{directory.path / path} is damaged ({type(error).__name__}: {error}); restore it"
            " from a backup, or remove it if no offset may be remembered outside the bus"
        ) from error


def _end_in(values: Mapping[str, Any] | None) -> CleanEnd | None:
    return None if values is None else CleanEnd(int(values["offset"]), int(values["number"]))


def store_state(directory: BusDirectory, topic: str, partition: int, state: PartitionState) -> None:
    """Replaces the state on disk; synced when this returns."""
    directory.write_truth(
        state_path(topic, partition),
        {
            "log_start_offset": state.log_start_offset,
            "offset_limit": state.offset_limit,
            "clean_end": None if state.clean_end is None else asdict(state.clean_end),
            "durable_end": None if state.durable_end is None else asdict(state.durable_end),
        },
    )
