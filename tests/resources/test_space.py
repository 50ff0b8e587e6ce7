"""Every amount of free space, of inodes and of descriptors: a clear error, and nothing is lost.

The default run looks at a few amounts; `tox -e resources` at all of them.
"""

import os
import random
import resource
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import bus
from bus.errors import BusError
from tests.bad_input.places import run, small_disk
from tests.broker.rig import status
from tests.children import Fork, Report
from tests.resources.life import Life, only

KIB = 1 << 10
MIB = 1 << 20
#: how many amounts are tried; 0: all
SAMPLES = int(os.environ.get("BUS_RESOURCE_SAMPLES", "1"))
SEED = int(os.environ.get("BUS_FAULT_SEED", "0")) or int.from_bytes(os.urandom(3), "big")
#: of all amounts one of so many, from the first one on
EVERY = int(os.environ.get("BUS_RESOURCE_EVERY", "1"))
#: for one amount, on a machine that has other things to do as well
TIMEOUT_S = 120
#: in the disk of the bus directory, and in the memory of the hot one
DISK_AMOUNTS = [*range(0, 64 * KIB, 4 * KIB), *range(64 * KIB, 4 * MIB, 128 * KIB)]
HOT_AMOUNTS = [*range(0, 256 * KIB, 16 * KIB), *range(256 * KIB, 6 * MIB, 256 * KIB)]
INODES = list(range(2, 40))


def some(amounts: list[int]) -> list[Any]:
    """A test each. Those that are not all are chosen when they run: processes that share a run
    must agree on the tests' names, and have seeds of their own.
    """
    if not SAMPLES:
        return [pytest.param(lambda one=one: one, id=str(one)) for one in amounts[::EVERY]]

    def choose(sample: int) -> int:
        print(f"BUS_FAULT_SEED={SEED}")
        return random.Random(SEED + sample).choice(amounts)

    return [pytest.param(partial(choose, one), id=f"any-{one}") for one in range(SAMPLES)]


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("amount", some(DISK_AMOUNTS))
def test_with_any_amount_of_free_disk_nothing_acknowledged_is_lost(
    tmp_path: Path, amount: Callable[[], int]
) -> None:
    free = amount()
    with small_disk(tmp_path / "disk", "32m") as disk:
        life = Life(disk / "bus")
        with only(free, disk):
            life.live()
        assert life.acknowledged or life.errors, f"{free} bytes free"
        life.check_again()


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("amount", some(HOT_AMOUNTS))
def test_with_any_amount_of_free_memory_nothing_acknowledged_is_lost(
    tmp_path: Path, amount: Callable[[], int]
) -> None:
    free = amount()
    with small_disk(tmp_path / "hot", "32m") as hot:
        life = Life(tmp_path / "bus", hot)
        with only(free, hot):
            life.live()
        assert life.acknowledged or life.errors, f"{free} bytes free"
        life.check_again()
        assert [one.name for one in hot.iterdir()] == [], "nothing is left over"


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("amount", some(INODES))
def test_with_any_number_of_free_inodes_nothing_acknowledged_is_lost(
    tmp_path: Path, amount: Callable[[], int]
) -> None:
    inodes = amount()
    with small_disk(tmp_path / "disk", f"64m,nr_inodes={inodes}") as disk:
        life = Life(disk / "bus", disk)
        life.live()
        assert life.acknowledged or life.errors, f"{inodes} inodes"
        run("mount", "-o", "remount,nr_inodes=1000", str(disk))
        life.check_again()


def test_a_client_without_descriptors_says_so_and_holds_nothing(
    broker: bus.Broker, bus_dir: Path, fork: Fork
) -> None:
    with bus.Producer(bus_dir) as producer:
        producer.send("t", b"x").get(timeout=10)

    def attach(report: Report) -> None:
        outcomes = []
        used = [os.open("/dev/null", os.O_RDONLY)]
        while used[-1] < 60:  # no number below is free
            used.append(os.open("/dev/null", os.O_RDONLY))
        for more in range(12):
            resource.setrlimit(resource.RLIMIT_NOFILE, (used[-1] + 1 + more, 4096))
            outcomes.append(_attempt(bus_dir))
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
        outcomes.append(_attempt(bus_dir))
        report(outcomes)

    outcomes = fork(attach).next()
    assert outcomes[-1] == "sent"
    assert any("Too many open files" in outcome for outcome in outcomes), outcomes
    assert all(one == "sent" or "Too many open files" in one for one in outcomes), outcomes
    assert len(status(bus_dir)["clients"]) == 0


def _attempt(path: Path) -> str:
    try:
        with bus.Producer(path, autostart=False) as producer:
            producer.send("t", b"y").get(timeout=10)
    except (BusError, OSError) as error:
        return str(error)
    return "sent"


def test_a_broker_without_descriptors_takes_no_more_clients_until_some_have_gone(
    broker: bus.Broker, bus_dir: Path
) -> None:
    with bus.Producer(bus_dir) as producer:
        producer.send("t", b"x").get(timeout=10)
        used = len(os.listdir(f"/proc/{broker.pid}/fd"))
        resource.prlimit(broker.pid, resource.RLIMIT_NOFILE, (used + 3, 4096))
        clients: list[bus.Producer] = []
        for _ in range(3):
            clients.append(bus.Producer(bus_dir))
        assert producer.send("t", b"y").get(timeout=10).offset == 1
        for client in clients:
            client.close()
        resource.prlimit(broker.pid, resource.RLIMIT_NOFILE, (4096, 4096))
        with bus.Producer(bus_dir) as another:
            assert another.send("t", b"z").get(timeout=10).offset == 2


def test_a_client_without_address_space_says_so_and_the_next_one_is_well(
    broker: bus.Broker, bus_dir: Path, fork: Fork
) -> None:
    with bus.Producer(bus_dir) as producer:
        producer.send("t", b"x").get(timeout=10)

    def attach(report: Report) -> None:
        words = Path("/proc/self/statm").read_text().split()
        now = int(words[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + 600 * KIB, resource.RLIM_INFINITY))
        first = _attempt(bus_dir)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
        report([first, _attempt(bus_dir)])

    refused, sent = fork(attach).next()
    assert sent == "sent"
    assert "Cannot allocate memory" in refused or refused == "sent", refused
    assert len(status(bus_dir)["clients"]) == 0
