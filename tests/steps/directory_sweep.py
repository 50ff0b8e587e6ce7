"""A broker dies in what it does to topics and groups, a client in taking or leaving its slot.

The next broker does what brokers do at their start, and may die of that as well; the one after it
must find the old state or the new one, and nothing half-made.
"""

import logging
import os
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from bus.catalog import Catalog
from bus.config import TopicConfig
from bus.directory import BusDirectory
from bus.errors import GroupIdNotFoundError
from bus.groups import Groups
from bus.incidents import Incidents
from bus.liveness import ROLE_PRODUCER, ClientSlot, client_rows
from bus.native.core import LAYOUT, Bells, Table
from bus.registry import Registry
from tests.steps import effects
from tests.steps.group_sweep import Swept

_CONTROL_BYTES = LAYOUT["sizeof.bus_control"]
_SEMAPHORES = Path("/dev/shm")
_CONFIG = TopicConfig()


class Place:
    """A bus directory with a topic, a group and a control table, without a broker."""

    def __init__(self, path: Path, *, new: bool = False) -> None:
        self.directory = BusDirectory.create(path)
        hot = path / "hot"
        if new:
            hot.mkdir(mode=0o700)
            (hot / "bus.ctl").write_bytes(bytes(_CONTROL_BYTES))
            (hot / "bus.ctl").chmod(0o600)
        with (hot / "bus.ctl").open("r+b") as file:
            self.control = Table(file.fileno(), _CONTROL_BYTES)
        self.control.store_release(LAYOUT["bus_control.bus_id"], self.directory.bus_id)
        if new:
            self.control.store_release(LAYOUT["bus_control.next_generation"], 1)
        hot_fd = os.open(hot, os.O_RDONLY | os.O_DIRECTORY)
        self.hot = SimpleNamespace(
            fd=hot_fd, control=self.control, incidents=Incidents(self.control)
        )
        self.catalog = Catalog(self.directory)
        self.slot: ClientSlot | None = None

    def groups(self) -> Groups:
        made = Groups(self.directory, cast(Any, self.hot), Bells(self.control), self.catalog)
        made.open_all(fence=False)
        return made

    def registry(self) -> Registry:
        return Registry(self.directory, cast(Any, self.hot), lambda slot, generation: True)

    def take_slot(self) -> None:
        self.slot = ClientSlot.take(self.directory, self.control, ROLE_PRODUCER, "steps")

    def leave_slot(self) -> None:
        assert self.slot
        self.slot.release()

    def doorbells(self) -> list[Path]:
        return list(_SEMAPHORES.glob(f"sem.bus-{self.directory.bus_id_hex}-*"))

    def close(self) -> None:
        for left in self.doorbells():
            left.unlink()
        os.close(self.hot.fd)
        self.directory.close()


@dataclass(frozen=True)
class Operation:
    """`prepare` is done by the victim, before the effects count."""

    prepare: Callable[[Place], object]
    act: Callable[[Place], object]


OPERATIONS: dict[str, Operation] = {
    "create a topic": Operation(
        lambda place: None, lambda place: place.catalog.create("new", 3, _CONFIG)
    ),
    "change a topic": Operation(
        lambda place: None, lambda place: place.catalog.alter("old", {"segment.bytes": 1 << 24})
    ),
    "give a topic partitions": Operation(
        lambda place: None, lambda place: place.catalog.grow("old", 4)
    ),
    "delete a topic": Operation(lambda place: None, lambda place: place.catalog.delete("old")),
    "make a group": Operation(lambda place: None, lambda place: place.groups().ensure("new")),
    "delete a group": Operation(
        lambda place: None, lambda place: place.groups().delete("old", lambda *_: True)
    ),
    "take a client slot": Operation(lambda place: None, Place.take_slot),
    "leave a client slot": Operation(Place.take_slot, Place.leave_slot),
}


def start(place: Place) -> None:
    """What a broker does at its start, as far as it concerns these."""
    place.catalog.sweep()
    place.groups()
    registry = place.registry()
    registry.probe_all()
    registry.close()


def sweep(
    name: str, library: Path, path: Path, *, stride: int, from_every: int = 0, later: int = 1
) -> Swept:
    """Deaths before every `stride`-th effect, and of the next broker before each `later`-th one."""
    found = Swept(name)
    began = time.monotonic()
    path.mkdir()
    operation = OPERATIONS[name]
    with ExitStack() as stack:

        def fresh(number: str) -> Place:
            place = Place(path / number, new=True)
            stack.callback(place.close)
            place.catalog.create("old", 2, _CONFIG)
            place.groups().ensure("old")
            return place

        def die(place: Place, death: int) -> tuple[str, int]:
            def prepare() -> None:
                logging.disable()
                operation.prepare(place)

            return effects.run(library, death, prepare, lambda _: operation.act(place))

        how, found.effects = die(fresh("0"), 0)
        assert how == "done", how
        for death in range(1, found.effects + 1, stride):
            place = fresh(f"{death}")
            how, _ = die(place, death)
            found.kills += 1
            _note(found, f"before effect {death}", how, place)
            if from_every and death % from_every == 1 % from_every:
                _second(found, death, fresh, die, library, later)
    found.seconds = time.monotonic() - began
    return found


def _second(
    found: Swept,
    death: int,
    fresh: Callable[[str], Place],
    die: Callable[[Place, int], tuple[str, int]],
    library: Path,
    stride: int,
) -> None:
    again, how = 1, "killed"
    while how == "killed":
        place = fresh(f"{death}-{again}")
        die(place, death)
        how, _ = effects.run(library, again, partial(_quiet, place), start)
        found.second_kills += how == "killed"
        where = f"before effect {death}, and the next broker before {again}"
        _note(found, where, "killed" if how == "done" else how, place)
        again += stride


def _note(found: Swept, where: str, how: str, place: Place) -> None:
    if how != "killed":
        found.violations.append(f"{found.name}, {where}: {how}")
    how, _ = effects.run(None, 0, partial(_quiet, place), judge)
    if how != "done":
        found.violations.append(f"{found.name}, {where}: {how}")


def _quiet(place: Place) -> Place:
    logging.disable()
    return place


def judge(left: Place) -> None:
    """Raises AssertionError unless a new broker finds the old state or the new one, and goes on."""
    path = left.directory.path
    place = Place(path)
    start(place)
    _check_catalog(place)
    _check_groups(place)
    _check_slots(place)
    hidden = [str(one) for one in path.rglob("*") if one.name[0] in "~." or "tmp" in one.name]
    assert not hidden, hidden
    place.close()


def _check_catalog(place: Place) -> None:
    catalog = place.catalog
    for topic in catalog.topics():
        assert topic.partitions == {"new": (3,), "old": (2, 4)}[topic.name][-1] or (
            topic.name == "old" and topic.partitions == 2
        )
        numbers = {one.name for one in (place.directory.topics_path / topic.name).glob("[0-9]")}
        assert numbers >= {str(number) for number in range(topic.partitions)}
    ids = [topic.id for topic in catalog.topics()]
    ids += [group.id for group in place.groups()]
    assert len(set(ids)) == len(ids)
    assert catalog.next_id() > max(ids, default=0)
    for name in ("old", "new"):
        if catalog.find(name) is None:
            catalog.create(name, 3, _CONFIG)
        catalog.grow(name, 5)
        catalog.delete(name)
    assert catalog.topics() == []


def _check_groups(place: Place) -> None:
    groups = place.groups()
    for name in ("old", "new"):
        group = groups.ensure(name)
        with group.members.locked():
            group.offsets.put({(1, 0): (5, b"")}, generation=1, timestamp_ns=1)
        assert groups.get(name).offsets.read()[1, 0].offset == 5
        groups.delete(name, lambda *_: True)
        with suppress(GroupIdNotFoundError):
            raise AssertionError(f"{groups.get(name)} is still there")


def _check_slots(place: Place) -> None:
    assert client_rows(place.control) == []
    place.take_slot()
    assert place.slot
    assert place.slot.slot == 0
    assert len(place.doorbells()) == 1
    place.leave_slot()
    assert place.doorbells() == []
