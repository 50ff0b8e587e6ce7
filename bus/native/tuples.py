"""What the compiled core says about rings, readers and segments, as named tuples."""

from collections.abc import Sequence
from typing import NamedTuple


class RingSlot(NamedTuple):
    """A slot of a partition's ring: its file, and the segment that stands in it (0: none)."""

    slot: int
    serial: int
    bytes: int
    number: int
    base_offset: int
    end_offset: int


class Reader(NamedTuple):
    """A reader of a partition. Bit N of `pins`: it holds what stands in ring slot N."""

    index: int  # type: ignore[assignment]
    client: int
    generation: int
    position: int
    pins: int
    must_wait: bool


class SegmentHeader(NamedTuple):
    """The header of a segment file: see bus_segment in docs/design.md."""

    bus_id: int
    topic_id: int
    partition: int
    number: int
    base_offset: int
    previous_end: int
    bytes: int
    created_ns: int
    seed: int
    end_offset: int
    end_position: int
    max_timestamp: int


class Scan(NamedTuple):
    """Where a walk over frames ended, and why, if that was before the end."""

    end_position: int
    next_offset: int
    max_timestamp: int
    sealed: bool
    error: str | None


class Claimed(NamedTuple):
    """A record of a share group that is not done. `client` is a client slot, -1: nobody has it.

    due_ns: when it comes again, on the monotonic clock; 0: it is not delayed. `counts` are by
    bus_ack_count in acks.h. `lane` is that of its key in a keyed group, else 0.
    """

    offset: int
    client: int
    running: bool
    due_ns: int
    counts: Sequence[int]
    lane: int = 0


class Acknowledged(NamedTuple):
    """What a share group has done of a partition: see `bus.ack_tables`."""

    base: int
    next: int
    done: Sequence[tuple[int, int]]
    left: Sequence[Claimed]
    parked: Sequence[tuple[int, int]] = ()
