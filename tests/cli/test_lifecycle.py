"""`bus serve`, `stop`, `status`, `check`, `top`: a bus as a whole, running, killed and stopped."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import bus
from bus.broker import Broker
from bus.cli.main import COMMANDS
from tests.cli.runs import answer, done, one_line, run
from tests.waiting import eventually


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_every_command_explains_itself(command: tuple[str, ...]) -> None:
    shown = done(*command, "--help").stdout
    assert "Usage:" in shown
    assert "xit codes:" in shown


def test_the_version_is_the_package_s() -> None:
    assert bus.__version__ in done("--version").stdout


def test_wrong_usage_ends_with_2() -> None:
    assert run("nonsense").exit_code == 2
    assert run("topics", "nonsense").exit_code == 2
    assert run("status", "--nonsense").exit_code == 2


def test_a_daemon_serves_until_it_is_stopped(bus_dir: Path) -> None:
    done("serve", bus_dir, "--daemon", "--partitions", "2", "-c", "retention.ms=1234")
    status = answer("status", bus_dir)
    assert status["broker"]["epoch"] == 1
    done("produce", "t", "--dir", bus_dir, stdin="a\n")
    (topic,) = answer("topics", "describe", "--dir", bus_dir)
    assert (len(topic["partitions"]), topic["configs"]["retention.ms"]) == (2, "1234")
    stopped = done("stop", bus_dir)
    assert str(status["broker"]["pid"]) in stopped.stderr
    assert not Path(status["hot_dir"]).exists()


def test_a_second_broker_is_refused_and_the_first_is_named(bus_dir: Path, broker: Broker) -> None:
    refused = run("serve", bus_dir, "--daemon")
    assert refused.exit_code == 1
    assert str(broker.pid) in one_line(refused)


def test_a_broker_that_creates_no_topics_says_how_to(bus_dir: Path) -> None:
    done("serve", bus_dir, "--daemon", "--no-auto-create")
    refused = run("produce", "t", "--dir", bus_dir, stdin="a\n")
    assert refused.exit_code == 1
    assert "bus topics create t" in one_line(refused)


def test_serve_in_the_foreground_ends_with_0_on_sigterm(bus_dir: Path) -> None:
    command = [sys.executable, "-m", "bus", "serve", str(bus_dir)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        eventually(lambda: run("status", bus_dir).exit_code == 0, what="the broker answers")
        process.terminate()
        assert process.wait(20) == 0


def test_status_tells_people_and_machines_the_same(bus_dir: Path, broker: Broker) -> None:
    with bus.Producer(bus_dir, client_id="me") as producer:
        producer.send("t", b"x").get(10)
        found = answer("status", bus_dir)
        shown = done("status", bus_dir).stdout
    assert found["broker"]["pid"] == broker.pid
    assert [one["client_id"] for one in found["clients"] if one["role"] == "producer"] == ["me"]
    (replica,) = found["replicas"]
    assert (replica["topic"], replica["log_end_offset"], replica["high_watermark"]) == ("t", 1, 1)
    assert found["memory_bytes"] >= 1 << 20
    assert found["disk_bytes"] > 0
    for text in (str(broker.pid), "me", str(replica["pid"]), str(bus_dir)):
        assert text in shown


def test_without_a_broker_status_says_how_to_start_one(bus_dir: Path) -> None:
    assert run("status", bus_dir).exit_code == 2
    done("serve", bus_dir, "--daemon")
    done("stop", bus_dir)
    silent = run("status", bus_dir)
    assert silent.exit_code == 1
    assert f"bus serve {bus_dir}" in one_line(silent)
    assert run("status", bus_dir, "--json").exit_code == 1
    done("stop", bus_dir)


def test_a_bus_is_clean_while_it_runs_when_it_is_killed_and_when_it_is_stopped(
    bus_dir: Path,
) -> None:
    done("serve", bus_dir, "--daemon")
    done("produce", "t", "--dir", bus_dir, stdin="a\nb\n")
    assert answer("check", bus_dir) == {"clean": True, "damages": []}
    os.kill(answer("status", bus_dir)["broker"]["pid"], signal.SIGKILL)
    eventually(lambda: run("status", bus_dir).exit_code == 1, what="the broker is dead")
    assert answer("check", bus_dir)["clean"]
    done("serve", bus_dir, "--daemon")
    done("stop", bus_dir)
    assert answer("check", bus_dir)["clean"]


def test_damage_is_named_with_file_and_position(bus_dir: Path, tmp_path: Path) -> None:
    done("produce", "t", "--dir", bus_dir, stdin="first\nsecond\n")
    done("stop", bus_dir)
    file = bus_dir / "topics" / "t" / "0" / f"{0:020d}.log"
    data = bytearray(file.read_bytes())
    at = data.index(b"second")
    data[at] ^= 1
    whole = file.read_bytes()
    file.write_bytes(data)
    found = run("check", bus_dir)
    file.write_bytes(whole)
    assert found.exit_code == 1
    assert f"topics/t/0/{file.name} at 12344: frame of offset 1 is invalid" in found.stdout


def test_what_is_no_bus_cannot_be_checked(tmp_path: Path) -> None:
    assert run("check", tmp_path).exit_code == 2
    assert run("check", tmp_path / "nothing").exit_code == 2
    assert run("check", "kafka://host:9092").exit_code == 2
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    assert run("check", tmp_path / "open").exit_code == 2


def test_top_shows_topics_groups_and_rates(bus_dir: Path, broker: Broker) -> None:
    done("produce", "t", "--dir", bus_dir, stdin="a\nb\n")
    done("consume", "t", "-g", "readers", "--from-beginning", "-n", "1", "--dir", bus_dir)
    shown = done("top", bus_dir, "-n", "2", "-i", "0.05").stdout
    assert "readers" in shown
    assert str(broker.pid) in shown


def test_python_minus_m_bus_is_the_same_program() -> None:
    command = [sys.executable, "-m", "bus", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Commands:" in shown
