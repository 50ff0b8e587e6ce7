"""GroupAdmin: who is in a group, how far it has read, and where it shall read on.

Offsets are read from, and written to, the group's own tables; the broker only keeps the list of
groups. A group's offsets can be changed while it has no members, as in Kafka.
"""

import os
from collections.abc import Iterable, Mapping
from contextlib import closing
from enum import IntEnum
from typing import Any

from bus.admin.handle import Handle
from bus.group_admin import GroupDescription, MemberDescription, describe_group, reset_offsets
from bus.lag_bell import commit_moved
from bus.liveness import death_probe
from bus.members import MemberTable
from bus.offset_entries import NO_OFFSET
from bus.offsets import OffsetTable
from bus.structs import OffsetAndMetadata, OffsetAndTimestamp, TopicPartition


class OffsetSpec(IntEnum):
    """Places in a log that have a name; kafka-python's values."""

    LATEST = -1
    EARLIEST = -2


#: An OffsetSpec, or a time in milliseconds since the epoch.
Spec = OffsetSpec | int


class GroupAdmin(Handle):
    """The part of an Admin that works on consumer groups and on offsets."""

    def list_groups(self) -> list[dict[str, Any]]:
        """Every group: {"group_id", "protocol_type", "group_state", "members"}, by name.

        The protocol type of a share group is "share", else it is "consumer".
        """
        groups = self._client.call("groups")["groups"]
        return [
            {
                "group_id": group["name"],
                "protocol_type": group["kind"],
                "group_state": group.get("state") or ("Stable" if group["members"] else "Empty"),
                "members": group["members"],
            }
            for group in sorted(groups, key=lambda group: str(group["name"]))
        ]

    def describe_groups(self, group_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Each group's state, generation and members with the partitions they own.

        "mode" is that of a share group, "queue" or "keyed"; None if it is none. Raises
        GroupIdNotFoundError.
        """
        names = self._topic_names()
        described = {}
        for group in _listed(group_ids):
            described[group] = _as_group(describe_group(self._members(group), group), names)
        return described

    def describe_shares(self, group_id: str) -> dict[TopicPartition, dict[str, int]]:
        """How far a share group is in each partition that somebody has worked on since the start.

        low: all below are done. next: from there on, nobody has been given one. in_flight, ready
        (came back), delayed, waiting (for an older one of their key), overtaken (older than the
        window of 65,536): records now. parked: lanes whose records wait in the log alone, see
        docs/design.md. done, dead, returned, reaped: how often that was said since. Empty if it is
        no share group. Raises GroupIdNotFoundError.
        """
        names = self._topic_names()
        tables = self._client.call("shares", name=group_id)["tables"]
        return {
            TopicPartition(names[topic], number): figures
            for topic, number, figures in tables
            if topic in names
        }

    def delete_groups(self, group_ids: Iterable[str]) -> list[tuple[str, str]]:
        """Delete groups with their offsets; [(group, "OK")].

        Raises GroupIdNotFoundError, and NonEmptyGroupError while a group has members.
        """
        done = []
        for group in _listed(group_ids):
            self._client.call("delete_group", name=group)
            done.append((group, "OK"))
        return done

    def list_group_offsets(
        self, group_specs: Mapping[str, Iterable[TopicPartition] | None] | str
    ) -> dict[str, dict[TopicPartition, OffsetAndMetadata]]:
        """The committed offsets of groups: {group: partitions, or None for all of them}."""
        specs = {group_specs: None} if isinstance(group_specs, str) else group_specs
        return {group: self._group_offsets(group, wanted) for group, wanted in specs.items()}

    def alter_group_offsets(
        self, group_id: str, offsets: Mapping[TopicPartition, OffsetAndMetadata | int]
    ) -> None:
        """Commit offsets for a group without members; its next members read on from there.

        The group is created if there is none. Raises NonEmptyGroupError, naming the members.
        """
        plain = {
            partition: committed if isinstance(committed, int) else committed.offset
            for partition, committed in offsets.items()
        }
        self._write_offsets(group_id, plain)

    def reset_group_offsets(
        self, group_id: str, specs: Mapping[TopicPartition, Spec]
    ) -> dict[TopicPartition, int]:
        """Set a group to the earliest, the latest or the first record at or after a time (ms).

        Returns the new offsets. Raises NonEmptyGroupError.
        """
        found = self.list_partition_offsets(specs)
        new = {partition: place.offset for partition, place in found.items()}
        self.alter_group_offsets(group_id, new)
        return new

    def delete_group_offsets(self, group_id: str, partitions: Iterable[TopicPartition]) -> None:
        """Forget a group's offsets of these partitions. Raises NonEmptyGroupError."""
        self._write_offsets(group_id, dict.fromkeys(partitions))

    def list_partition_offsets(
        self, specs: Mapping[TopicPartition, Spec]
    ) -> dict[TopicPartition, OffsetAndTimestamp]:
        """The offset of each place: OffsetSpec.EARLIEST, LATEST, or a time in milliseconds.

        A time after the last record gives the log end, with timestamp -1.
        """
        times = {partition: spec for partition, spec in specs.items() if spec >= 0}
        found = self._offsets_for_times(times)
        for partition, spec in specs.items():
            if spec < 0:
                found[partition] = OffsetAndTimestamp(self._bound(partition, spec), -1)
        return found

    # Kafka-python 2.x names, so that older programs run.
    list_consumer_groups = list_groups
    describe_consumer_groups = describe_groups
    list_consumer_group_offsets = list_group_offsets

    def _bound(self, partition: TopicPartition, spec: Spec) -> int:
        log = self._log(partition)
        where = OffsetSpec(spec)  # ValueError names any other negative number
        return log.log_start_offset if where is OffsetSpec.EARLIEST else log.log_end_offset

    def _offsets_for_times(
        self, times: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, OffsetAndTimestamp]:
        if not times:
            return {}
        from bus.consumer import Consumer  # only this call reads records

        with Consumer(bootstrap_servers=self._client.directory.path, group_id=None) as consumer:
            found = consumer.offsets_for_times(dict(times))
        return {
            partition: place or OffsetAndTimestamp(self._bound(partition, OffsetSpec.LATEST), -1)
            for partition, place in found.items()
        }

    def _group_offsets(
        self, group: str, wanted: Iterable[TopicPartition] | None
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        self._client.call("group", name=group, create=False)
        names = self._topic_names()
        path = self._client.directory.offsets_path(group)
        with closing(OffsetTable.open_path(path)) as table:
            entries = table.read()
        committed = {
            TopicPartition(names[topic_id], partition): OffsetAndMetadata(
                entry.offset, entry.metadata
            )
            for (topic_id, partition), entry in sorted(entries.items())
            if topic_id in names and entry.offset >= 0
        }
        if wanted is None:
            return committed
        return {TopicPartition(*one): committed[one] for one in wanted if one in committed}

    def _write_offsets(self, group: str, new: Mapping[TopicPartition, int | None]) -> None:
        client = self._client
        client.call("group", name=group, create=True)
        by_id = {
            (client.topic(partition.topic, create=False).id, partition.partition): offset
            for partition, offset in new.items()
        }
        client.call("forget_shares", name=group, partitions=[[*one] for one in by_id])
        path = client.directory.offsets_path(group)
        lock_fd = client.directory.open_clients_lock()
        try:
            death = death_probe(lock_fd, client.control)
            with closing(OffsetTable.open_path(path, writable=True)) as table:
                reset_offsets(self._members(group), table, by_id, death)
                table.sync()
        finally:
            os.close(lock_fd)
        for partition, committed in by_id.items():
            commit_moved(client, partition, NO_OFFSET if committed is None else committed)

    def _members(self, group: str) -> MemberTable:
        group_id = int(self._client.call("group", name=group, create=False)["id"])
        return MemberTable.open(self._client.hot_fd, group_id, name=group)

    def _topic_names(self) -> dict[int, str]:
        return {topic.id: topic.name for topic in self._client.topics()}


def _listed(group_ids: Iterable[str]) -> list[str]:
    return [group_ids] if isinstance(group_ids, str) else list(group_ids)


def _as_group(group: GroupDescription, names: Mapping[int, str]) -> dict[str, Any]:
    return {
        "group_id": group.group,
        "group_state": group.state,
        "protocol_type": "share" if group.mode else "consumer",
        "protocol_data": group.members[0].strategy if group.members else "",
        "generation": group.generation,
        "mode": group.mode,
        "members": [_as_member(member, names) for member in group.members],
    }


def _as_member(member: MemberDescription, names: Mapping[int, str]) -> dict[str, Any]:
    return {
        "member_id": member.member_id,
        "client_id": member.client_id,
        "pid": member.pid,
        "topics": sorted(names[topic] for topic in member.topics if topic in names),
        "partitions": [
            TopicPartition(names[topic], partition)
            for topic, partition in sorted(member.partitions)
            if topic in names
        ],
    }
