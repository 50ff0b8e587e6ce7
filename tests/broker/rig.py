"""What tests of real brokers ask: status, processes, and what is left of a bus."""

import os
import signal
from pathlib import Path
from typing import Any

from bus.broker import Broker
from bus.control import ControlClient
from bus.directory import BusDirectory
from bus.errors import BrokerNotRunningError
from tests.waiting import eventually


def ask(path: Path, op: str, **args: Any) -> dict[str, Any]:
    """One request to the broker of a bus, without attaching to it."""
    with BusDirectory.open(path) as directory:
        client = ControlClient(directory, timeout_s=20.0)
        try:
            return client.call(op, **args)
        finally:
            client.close()


def status(path: Path) -> dict[str, Any]:
    return ask(path, "status")


def create_topic(path: Path, name: str = "t", partitions: int = 1, **configs: object) -> None:
    """A topic; configs with `_` for `.`."""
    named = {key.replace("_", "."): str(value) for key, value in configs.items()}
    topic = {"name": name, "partitions": partitions, "configs": named}
    ask(path, "create_topics", topics=[topic])


def replica(path: Path, partition: int = 0) -> dict[str, Any]:
    """The status of the replica of a partition of topic "t", once it runs."""

    def running() -> dict[str, Any] | None:
        for row in status(path)["replicas"]:
            if (row["topic"], row["partition"]) == ("t", partition):
                return row if row["state"] == "running" and is_alive(row["pid"]) else None
        return None

    found = eventually(running, what=f"a replica of t-{partition}")
    assert found is not None
    return found


def is_alive(pid: int) -> bool:
    """True if the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def kill(pid: int) -> None:
    """kill -9, and waits until the process is gone."""
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not is_alive(pid), what=f"end of pid {pid}")


def kill_broker(broker: Broker) -> None:
    """kill -9 of a broker whose handle is kept; its replicas live on."""
    kill(broker.pid)


def answers(path: Path) -> bool:
    try:
        status(path)
    except BrokerNotRunningError:
        return False
    return True


def durable_files(path: Path, partition: int = 0) -> list[str]:
    """Names of the durable segments of a partition of topic "t"."""
    return sorted(file.name for file in (path / "topics" / "t" / str(partition)).glob("*.log"))
