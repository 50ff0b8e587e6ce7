"""The owner slots of a group's members table: who owns each partition, and who is to own it.

    0        4          8        12       16
    +--------+----------+--------+--------+
    | topic  | partition| owner  | target |      owner, target: member slot + 1, or 0 for nobody
    +--------+----------+--------+--------+

A slot is free if and only if owner and target are both 0, whatever topic and partition say.
`target` is the plan; it counts only while `planned` equals the group's generation. `owner` is the
fact: one store hands a partition over, and only its owner (or a proof of the owner's death) clears
it. So a partition never has two owners, whatever anybody computes.

All functions here need the group's mutex; a caller that has it not gets a picture for people.
"""

import struct
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from bus.assignment import Partition
from bus.errors import BusConfigurationError
from bus.native.core import LAYOUT, Table

#: partitions that one group can be given
PARTITIONS_MAX = LAYOUT["BUS_GROUP_PARTITIONS"]

_COUNT = LAYOUT["bus_members.owners_count"]
_OWNERS = LAYOUT["bus_members.owners"]
_SIZE = LAYOUT["sizeof.bus_owner"]
_OWNER = LAYOUT["bus_owner.owner"]
_TARGET = LAYOUT["bus_owner.target"]
_SLOT = struct.Struct("<IIII")
if _SLOT.size != _SIZE or _OWNER != 8 or _TARGET != 12:
    raise ImportError("bus_owner in layout.h has changed: owners.py reads it as four words")


class Ownership(NamedTuple):
    """One owner slot. `owner` and `target` are member slots, None for nobody."""

    at: int
    partition: Partition
    owner: int | None
    target: int | None


class OwnerTable:
    """The owner slots of one group."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def entries(self) -> list[Ownership]:
        """All slots in use."""
        return [entry for entry in self._slots() if not _is_free(entry)]

    def owned_by(self, slot: int) -> set[Partition]:
        """What the member in `slot` owns."""
        # Asked at every commit: no objects are made for what others own.
        return {
            (topic, number)
            for topic, number, owner, _ in _SLOT.iter_unpack(self._bytes())
            if owner == slot + 1
        }

    def claim(self, index: int, slot: int) -> None:
        """Make the member in `slot` the owner; the caller has seen that nobody is."""
        self._store(index, _OWNER, slot)

    def release(self, index: int) -> None:
        """Make nobody the owner."""
        self._store(index, _OWNER, None)

    def forget(self, slot: int) -> None:
        """Clear every word that names the member slot `slot`."""
        for entry in self.entries():
            self._clear(entry, owner=entry.owner == slot, target=entry.target == slot)

    def forget_all_but(self, slots: Collection[int]) -> None:
        """Clear every word that names a member slot outside of `slots`."""
        for entry in self.entries():
            self._clear(entry, owner=entry.owner not in slots, target=entry.target not in slots)

    def set_targets(self, plan: Mapping[int, Iterable[Partition]]) -> None:
        """Write who is to own what; the caller then stores `planned`.

        Raises BusConfigurationError, before anything is written, if there are too many.
        """
        target_of = {partition: slot for slot, part in plan.items() for partition in part}
        slots = self._slots()
        used = {entry.partition: entry for entry in slots if not _is_free(entry)}
        free = [entry.at for entry in slots if _is_free(entry)]
        new = sorted(set(target_of) - set(used))
        count = max(len(slots), len(slots) + len(new) - len(free))
        if count > PARTITIONS_MAX:
            raise BusConfigurationError(
                f"the members of the group subscribe to more than {PARTITIONS_MAX} partitions in"
                " all; split the topics over several groups"
            )
        for partition, entry in used.items():
            self._store(entry.at, _TARGET, target_of.get(partition))
        for partition, index in zip(new, [*free, *range(len(slots), count)], strict=False):
            at = _OWNERS + index * _SIZE
            _SLOT.pack_into(self._table.view, at, *partition, 0, target_of[partition] + 1)
        self._table.store32_release(_COUNT, count)

    def _bytes(self) -> memoryview:
        count = self._table.load32_acquire(_COUNT)
        return self._table.view[_OWNERS : _OWNERS + count * _SIZE]

    def _slots(self) -> list[Ownership]:
        return [
            Ownership(
                index, (topic, partition), owner - 1 if owner else None, goal - 1 if goal else None
            )
            for index, (topic, partition, owner, goal) in enumerate(
                _SLOT.iter_unpack(self._bytes())
            )
        ]

    def _clear(self, entry: Ownership, *, owner: bool, target: bool) -> None:
        if owner and entry.owner is not None:
            self._store(entry.at, _OWNER, None)
        if target and entry.target is not None:
            self._store(entry.at, _TARGET, None)

    def _store(self, index: int, word: int, slot: int | None) -> None:
        self._table.store32_release(_OWNERS + index * _SIZE + word, 0 if slot is None else slot + 1)


def _is_free(entry: Ownership) -> bool:
    return entry.owner is None and entry.target is None
