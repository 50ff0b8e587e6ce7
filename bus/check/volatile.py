"""The headers of the shared tables in the hot directory: bus.ctl, one table per group, and one per
partition of a share group.

Only what never changes is looked at: the rest changes under a lock that a reader may not take.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from bus.check.committed import GroupOffsets
from bus.check.damage import Findings
from bus.check.files import mapped
from bus.errors import BusError
from bus.fields import Fields
from bus.native.core import LAYOUT

_COMMON = {"magic": "Q", "version": "I", "bytes": "I", "bus_id": "Q"}
_BUS = Fields("bus_control", {**_COMMON, "hot_id": "Q", "pid_namespace": "Q"})
_MEMBERS = Fields("bus_members", {**_COMMON, "group_id": "Q"})
_ACKS = Fields("bus_acks", {**_COMMON, "group_id": "Q", "topic_id": "Q", "partition": "I"})
_ACKS_FILE = re.compile(r"acks-(\d+)-(\d+)-(\d+)\.ctl")
_VERSION = LAYOUT["BUS_LAYOUT_VERSION"]


def check_control(path: Path, bus_id: int, hot_id: int, findings: Findings) -> None:
    """Check bus.ctl: its identity, and that it is the one which runtime.json speaks of."""
    wanted = {
        "magic": LAYOUT["BUS_MAGIC_BUS"],
        "version": _VERSION,
        "bytes": _BUS.size,
        "bus_id": bus_id,
        "hot_id": hot_id,
    }
    _check(path, _BUS, wanted, findings)


def check_members(
    hot_path: Path, groups: Iterable[GroupOffsets], bus_id: int, findings: Findings
) -> None:
    """Check the members tables of these groups; those that are not there yet are passed over."""
    for group in groups:
        path = hot_path / f"group-{group.group_id}.ctl"
        wanted = {
            "magic": LAYOUT["BUS_MAGIC_MEMBERS"],
            "version": _VERSION,
            "bytes": _MEMBERS.size,
            "bus_id": bus_id,
            "group_id": group.group_id,
        }
        _check(path, _MEMBERS, wanted, findings)


def check_ack_tables(
    hot_path: Path, groups: Iterable[GroupOffsets], bus_id: int, findings: Findings
) -> None:
    """Check the ack tables of these groups; those of a group deleted just now are passed over."""
    known = {group.group_id for group in groups}
    for path in sorted(hot_path.glob("acks-*.ctl")):
        found = _ACKS_FILE.fullmatch(path.name)
        if found is None or int(found[1]) not in known:
            continue
        wanted = {
            "magic": LAYOUT["BUS_MAGIC_ACKS"],
            "version": _VERSION,
            "bytes": _ACKS.size,
            "bus_id": bus_id,
            "group_id": int(found[1]),
            "topic_id": int(found[2]),
            "partition": int(found[3]),
        }
        _check(path, _ACKS, wanted, findings)


def _check(path: Path, fields: Fields, wanted: dict[str, int], findings: Findings) -> None:
    where = findings.inside(str(path))
    try:
        with mapped(path) as data:
            if len(data) < fields.size:
                where.add(len(data), f"the file is shorter than its table ({fields.size} bytes)")
                return
            found = fields.read(data)
    except FileNotFoundError:  # the bus was stopped, the group was deleted, or made just now
        return
    except (BusError, IsADirectoryError) as error:
        where.add(0, str(error))
        return
    for name, value in wanted.items():
        where.expect(fields.offsets[name], name, found[name], value)
