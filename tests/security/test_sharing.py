"""A bus is open to others exactly as long as a topic, or its broker, says so."""

import os
import signal
import stat
from pathlib import Path

import psutil

import bus
from tests.buses import bus_processes
from tests.waiting import eventually


def gateways(path: Path) -> list[psutil.Process]:
    """The live ones: `info` is from the look that found them, they may have ended since."""
    return [one for one in bus_processes(path) if "bus.gateway" in one.info["cmdline"]]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_an_acl_opens_the_bus_and_the_end_of_the_last_one_closes_it(bus_dir: Path) -> None:
    with bus.Broker(bus_dir), bus.Admin(bus_dir) as admin:
        admin.create_topics(["t"])
        assert mode(bus_dir) == 0o700 and not gateways(bus_dir)
        admin.alter_configs({"t": {"acl.write": "*"}})
        eventually((bus_dir / "guests.sock").exists)
        assert mode(bus_dir) == 0o711 and len(gateways(bus_dir)) == 1
        admin.alter_configs({"t": {"acl.write": None}})
        eventually(lambda: not (bus_dir / "guests.sock").exists())
        assert mode(bus_dir) == 0o700 and not gateways(bus_dir)


def test_a_stop_closes_a_shared_bus_and_the_next_broker_opens_it_again(bus_dir: Path) -> None:
    config = bus.BrokerConfig(shared=True)
    for _ in range(2):
        with bus.Broker(bus_dir, config=config):
            eventually((bus_dir / "guests.sock").exists)
            assert mode(bus_dir) == 0o711
        assert mode(bus_dir) == 0o700 and not (bus_dir / "guests.sock").exists()
        assert not gateways(bus_dir)


def test_a_gateway_ends_with_a_broker_that_was_killed_and_the_next_one_has_its_own(
    bus_dir: Path,
) -> None:
    config = bus.BrokerConfig(shared=True)
    broker = bus.Broker(bus_dir, config=config).start()
    eventually((bus_dir / "guests.sock").exists)
    [first] = gateways(bus_dir)
    os.kill(broker.pid, signal.SIGKILL)
    broker.stop()
    eventually(lambda: not gateways(bus_dir))
    with bus.Broker(bus_dir, config=config):
        second = eventually(lambda: gateways(bus_dir))
        assert second[0].pid != first.pid


def test_a_private_broker_after_a_shared_one_that_was_killed_closes_the_bus(bus_dir: Path) -> None:
    broker = bus.Broker(bus_dir, config=bus.BrokerConfig(shared=True)).start()
    eventually((bus_dir / "guests.sock").exists)
    os.kill(broker.pid, signal.SIGKILL)
    broker.stop()
    with bus.Broker(bus_dir), bus.Admin(bus_dir) as admin:
        admin.list_topics()
        assert mode(bus_dir) == 0o700 and not gateways(bus_dir)
