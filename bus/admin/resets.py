"""Where a group shall read on: plans for `bus groups reset-offsets`, pure functions of values."""

from collections.abc import Mapping
from dataclasses import dataclass

from bus.errors import BusConfigurationError
from bus.structs import TopicPartition


@dataclass(frozen=True, slots=True)
class LogRange:
    """The offsets of a partition that can be read: from `start` up to, not including, `end`."""

    start: int
    end: int

    def clamp(self, offset: int) -> int:
        """The nearest offset that a group may stand at; Kafka does the same."""
        return max(self.start, min(offset, self.end))


@dataclass(frozen=True, slots=True)
class Reset:
    """A group's offset of one partition, now (None: none) and after the reset."""

    partition: TopicPartition
    current: int | None
    new: int


def plan_offsets(
    ranges: Mapping[TopicPartition, LogRange],
    current: Mapping[TopicPartition, int],
    wanted: Mapping[TopicPartition, int],
) -> list[Reset]:
    """Resets to these offsets, each moved into its partition's range."""
    return [
        Reset(partition, current.get(partition), ranges[partition].clamp(offset))
        for partition, offset in sorted(wanted.items())
    ]


def plan_shift(
    ranges: Mapping[TopicPartition, LogRange], current: Mapping[TopicPartition, int], by: int
) -> list[Reset]:
    """Resets by so many records forwards or, if negative, backwards.

    Raises BusConfigurationError for a partition without a committed offset: there is nothing to
    shift from.
    """
    unknown = [partition for partition in ranges if partition not in current]
    if unknown:
        names = ", ".join(f"{topic}:{partition}" for topic, partition in sorted(unknown))
        raise BusConfigurationError(
            f"the group has no offset to shift from for {names}; use --to-earliest or --to-offset"
        )
    wanted = {partition: current[partition] + by for partition in ranges}
    return plan_offsets(ranges, current, wanted)
