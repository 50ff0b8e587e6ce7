"""Members, clients and brokers die before every effect of what Python does to shared state."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bus import twofold
from bus.members import MemberTable
from bus.native.core import LAYOUT
from bus.offsets import OffsetTable
from tests.steps import directory_sweep, effects, group_sweep
from tests.steps.group_stage import OPERATIONS as GROUP_OPERATIONS

#: All of it in `tox -e steps`; here a part.
FULL = os.environ.get("BUS_STEPS_FULL") == "1"
STRIDE = 1 if FULL else 9
#: Second deaths start from every so many of the first ones, and come before every so many effects.
SECOND = {"from_every": 5, "later": 1} if FULL else {"from_every": 0, "later": 1}
TIMEOUT_S = 3600 if FULL else 60


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return effects.build(tmp_path_factory.mktemp("effects"))


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("name", GROUP_OPERATIONS)
def test_a_group_goes_on_after_a_death_at_any_store_or_call(
    library: Path, tmp_path: Path, name: str
):
    found = group_sweep.sweep(name, library, tmp_path / "group", stride=STRIDE, **SECOND)
    assert not found.violations, "\n".join(found.violations[:3])
    assert found.kills * STRIDE >= found.effects > 10


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("name", directory_sweep.OPERATIONS)
def test_the_next_broker_goes_on_after_a_death_at_any_store_or_call(
    library: Path, tmp_path: Path, name: str
):
    found = directory_sweep.sweep(name, library, tmp_path / "bus", stride=STRIDE, **SECOND)
    assert not found.violations, "\n".join(found.violations[:3])
    assert found.kills * STRIDE >= found.effects > 2


def test_an_heir_that_dies_at_any_store_or_call_leaves_it_to_the_next_one(
    library: Path, tmp_path: Path
):
    later = {"from_every": 12, "later": 11}
    found = group_sweep.sweep("leave", library, tmp_path / "group", stride=12, **later)
    assert not found.violations, "\n".join(found.violations[:3])
    assert found.second_kills > 6


# ------------------------------------------------------------------- what the sweep would catch

Break = Callable[[pytest.MonkeyPatch], None]


def the_removed_keep_their_partitions(patch: pytest.MonkeyPatch) -> None:
    def remove(table: MemberTable, slot: int) -> None:
        table.raise_generation()
        at = LAYOUT["bus_members.members"] + slot * LAYOUT["sizeof.bus_member"]
        table._table.store32_release(at, 0)

    patch.setattr(MemberTable, "remove", remove)


def commits_clear_what_was(patch: pytest.MonkeyPatch) -> None:
    real = OffsetTable._write

    def clear(table: OffsetTable, number: int, copy: int, data: bytes) -> None:
        real(table, number, 1 - copy, bytes(len(data)))
        real(table, number, copy, data)

    patch.setattr(OffsetTable, "_write", clear)


def members_go_without_a_word(patch: pytest.MonkeyPatch) -> None:
    def remove(table: MemberTable, slot: int) -> None:
        at = LAYOUT["bus_members.members"] + slot * LAYOUT["sizeof.bus_member"]
        table._table.store32_release(at, 0)
        table.owners.forget(slot)

    patch.setattr(MemberTable, "remove", remove)
    patch.setattr(MemberTable, "_repair", lambda table: None)


def files_are_written_in_place(patch: pytest.MonkeyPatch) -> None:
    def write(dir_fd: int, name: str, value: dict[str, Any], seal: str, **_: object) -> None:
        data = twofold.encode(value, seal)
        names = (name, name + twofold.COPY_SUFFIX)
        fds = [
            os.open(one, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600, dir_fd=dir_fd)
            for one in names
        ]
        for fd in fds:
            os.write(fd, data)
            os.close(fd)

    patch.setattr(twofold, "write", write)


@pytest.mark.parametrize(
    ("broken", "name"),
    [
        (the_removed_keep_their_partitions, "leave"),
        (commits_clear_what_was, "commit"),
        (members_go_without_a_word, "leave"),
    ],
)
def test_the_sweep_notices_in_a_group_that(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: Break, name: str
):
    broken(monkeypatch)
    assert group_sweep.sweep(name, library, tmp_path / "group", stride=3).violations


def test_the_sweep_notices_in_a_catalog_that_files_are_written_in_place(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    files_are_written_in_place(monkeypatch)
    found = directory_sweep.sweep("change a topic", library, tmp_path / "bus", stride=2)
    assert found.violations
