"""What may be deleted, and what must be sealed first: decisions about time and size, without I/O.

The rules are Kafka's: a segment goes when its newest record is older than `retention.ms`, or
when the log without it would still hold `retention.bytes`. Whole segments only, oldest first,
never the active one. An active segment whose records are all too old is sealed, so that it can
go at the next look.
"""

from collections.abc import Sequence
from dataclasses import dataclass

#: A retention setting that keeps everything.
UNLIMITED = -1

MS_NS = 1_000_000


@dataclass(frozen=True, slots=True)
class StoredSegment:
    """One segment as retention sees it. Sealed ones are complete; the last one is active."""

    base_offset: int
    bytes: int
    max_timestamp_ns: int


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """How long (ms) and how much (bytes) of a partition is kept; -1: without limit."""

    retention_ms: int = UNLIMITED
    retention_bytes: int = UNLIMITED

    @property
    def keeps_all(self) -> bool:
        return self.retention_ms < 0 and self.retention_bytes < 0


def is_expired(max_timestamp_ns: int, policy: RetentionPolicy, now_ns: int) -> bool:
    """True if a segment whose newest record has that timestamp is too old to keep."""
    if policy.retention_ms < 0:
        return False
    return now_ns - max_timestamp_ns > policy.retention_ms * MS_NS


def segments_to_delete(
    segments: Sequence[StoredSegment], policy: RetentionPolicy, now_ns: int
) -> int:
    """How many of the oldest segments the policy lets go.

    `segments` ascend by base offset; the last one is active and never counted. The new log
    start offset is the base offset of the first segment that stays.
    """
    surplus = sum(segment.bytes for segment in segments) - policy.retention_bytes
    count = 0
    for segment in segments[:-1]:
        too_much = policy.retention_bytes >= 0 and surplus >= segment.bytes
        if not too_much and not is_expired(segment.max_timestamp_ns, policy, now_ns):
            break
        surplus -= segment.bytes
        count += 1
    return count


def segments_below(bases: Sequence[int], log_start_offset: int) -> int:
    """How many of the oldest segments hold only records below `log_start_offset`.

    A segment ends where the next one begins; the last one stays, whatever it holds, because
    the replica goes on from it.
    """
    count = 0
    for end in bases[1:]:
        if end > log_start_offset:
            break
        count += 1
    return count
