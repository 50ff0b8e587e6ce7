"""Containers: another pid namespace is refused; a small /dev/shm is not used."""

import os
import signal
from pathlib import Path

import pytest

import bus
from bus.directory import pid_namespace
from tests.bad_input.places import program

ATTACH = """
import json, bus
def attempt(make):
    try:
        return repr(make())
    except bus.errors.BusError as error:
        return type(error).__name__, str(error)
path = {path!r}
print(json.dumps([
    attempt(lambda: bus.Producer(path)),
    attempt(lambda: bus.Consumer("t", bootstrap_servers=path)),
    attempt(lambda: bus.Admin(path)),
]))
"""

SERVE = """
import json, bus
def attempt():
    try:
        with bus.Broker({path!r}):
            return "served"
    except bus.errors.BusError as error:
        return type(error).__name__, str(error)
print(json.dumps(attempt()))
"""

SMALL_MEMORY = """
import json, pathlib, bus
path = {path!r}
with bus.Broker(path), bus.Producer(path) as producer:
    for number in range(3):
        producer.send(f"t{{number}}", b"x").get(timeout=10)
    consumer = bus.Consumer("t2", bootstrap_servers=path, auto_offset_reset="earliest")
    [[record]] = consumer.poll(timeout_ms=5000).values()
    consumer.close()
    runtime = json.loads((pathlib.Path(path) / "runtime.json").read_text())
    print(json.dumps([runtime["hot_dir"], bytes(record.value).decode()]))
"""

OTHER_PIDS = ("unshare", "--pid", "--fork")
SMALL_SHM = (
    "unshare",
    "--mount",
    "--",
    "sh",
    "-ec",
    'mount -t tmpfs -o size=16m bus-test /dev/shm; exec "$@"',
    "sh",
)


def test_a_client_in_another_pid_namespace_is_refused_and_told_both(bus_dir: Path) -> None:
    with bus.Broker(bus_dir), bus.Producer(bus_dir) as producer:
        producer.send("t", b"x").get(timeout=10)
        answers, _ = program(ATTACH.format(path=str(bus_dir)), *OTHER_PIDS)
        for name, text in answers:
            assert name == "NamespaceError"
            assert f"another pid namespace ({pid_namespace()}, here it is" in text
            assert "run both in one container, or share the namespace" in text
        assert producer.send("t", b"y").get(timeout=10).offset == 1


def test_a_broker_in_another_pid_namespace_is_refused_as_long_as_the_bus_is_used(
    bus_dir: Path,
) -> None:
    broker = bus.Broker(bus_dir).start()
    with bus.Producer(bus_dir, autostart=False) as producer:
        producer.send("t", b"x").get(timeout=10)
        os.kill(broker.pid, signal.SIGKILL)
        broker.stop()
        name, text = program(SERVE.format(path=str(bus_dir)), *OTHER_PIDS)[0]
        assert name == "NamespaceError"
        assert f"{bus_dir} is in use by processes of another pid namespace" in text
        assert "start the broker in theirs, or end them first" in text
        with bus.Broker(bus_dir):
            assert producer.send("t", b"y").get(timeout=10).offset == 1


def test_a_stopped_bus_may_go_on_in_another_pid_namespace(bus_dir: Path) -> None:
    with bus.Broker(bus_dir), bus.Producer(bus_dir) as producer:
        producer.send("t", b"x").get(timeout=10)
    answer, _ = program(SERVE.format(path=str(bus_dir)), *OTHER_PIDS)
    assert answer == "served"


def test_with_little_shared_memory_the_hot_log_lives_in_the_data_directory_after_one_warning(
    bus_dir: Path,
) -> None:
    answer, log = program(SMALL_MEMORY.format(path=str(bus_dir)), *SMALL_SHM)
    assert answer == [str(bus_dir / "hot"), "x"]
    warnings = [line for line in log.splitlines() if "WARNING" in line]
    assert len(warnings) == 1, log
    assert "/dev/shm has 16 MiB free, 128 are needed; the hot log goes to" in warnings[0]
    assert not (bus_dir / "hot").exists()


@pytest.mark.parametrize("hot", ["taken", "busy"])
def test_a_hot_directory_that_is_not_ours_is_refused_and_left_alone(
    bus_dir: Path, tmp_path: Path, hot: str
) -> None:
    with bus.Broker(bus_dir):
        pass
    bus_id = (bus_dir / "bus.json").read_text().split('"bus_id": "')[1][:16]
    path = tmp_path / f"bus-{bus_id}"
    path.mkdir(mode=0o700)
    (path / "letters.txt").write_text("mine")
    if hot == "taken":
        path.chmod(0o777)
    with pytest.raises(bus.errors.UnsafeDirectoryError, match=r"no file of a bus|chmod go-w"):
        bus.Broker(bus_dir, hot_dir=tmp_path).start()
    assert (path / "letters.txt").read_text() == "mine"
