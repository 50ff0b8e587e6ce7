"""A guest that is inside when a file is harmed reads all that verifies, and is told of the rest."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import bus
from bus.guest import GuestClient
from bus.guest_producer import GuestProducer
from bus.guest_reader import GuestReader
from tests.children import Child, Report
from tests.damage import harm
from tests.damage.rig import RECORDS, Reader, counters, filled_bus, hot_files
from tests.security.users import ALICE, becoming, reachable_bus
from tests.waiting import eventually

#: loaded before the fork: the checkout may be closed to other users
GUEST_MODULES = (GuestClient, GuestProducer, GuestReader)


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bus-test-") as name, reachable_bus(Path(name)) as path:
        yield path


@pytest.mark.parametrize("kind", ["value", "cut", "deleted"])
def test_a_guest_reads_on_behind_what_is_harmed_under_its_eyes(path: Path, kind: str) -> None:
    with filled_bus(path, scrub_bytes_per_s=0), bus.Admin(path) as admin:
        admin.alter_configs({"t": {"acl.read": f"user:{ALICE}"}})
        eventually((path / "guests.sock").exists)

        def guest(report: Report) -> None:
            reader = Reader(path)
            while not reader.offsets:
                reader.read(1)
            report("inside")
            eventually((path.parent / "harmed").exists, 30)
            reader.read_to(RECORDS)
            report([reader.offsets, reader.missed])

        child = Child(becoming(ALICE, guest))
        try:
            assert child.next(30) == "inside"
            harm.SEGMENT_HARM[kind](hot_files(path)[1])
            (path.parent / "harmed").touch()
            offsets, missed = child.next(60)
        finally:
            child.end()
        assert sorted([*offsets, *missed]) == list(range(RECORDS))
        assert len(missed) <= RECORDS // 3 + 1  # of the harmed segment alone
        owner = Reader(path)
        owner.read_to(RECORDS)
        owner.close()
        assert owner.offsets == list(range(RECORDS))  # from disk
        assert counters(path)["replica_restarts"] == 0
