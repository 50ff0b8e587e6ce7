"""bootstrap_servers: which directory it means, or why not."""

from pathlib import Path

import pytest

from bus.address import resolve_address
from bus.errors import BusConfigurationError, UnsupportedVersionError


def test_a_path_is_made_absolute_from_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve_address("data") == tmp_path / "data"
    assert resolve_address(Path("./data")) == tmp_path / "data"


def test_a_bus_address_is_the_absolute_path_behind_it():
    assert resolve_address("bus:///srv/data") == Path("/srv/data")
    with pytest.raises(BusConfigurationError, match="absolute"):
        resolve_address("bus://srv/data")


def test_the_home_directory_is_understood(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert resolve_address("~/data") == Path("/home/somebody/data")


def test_without_an_address_the_environment_says_where(monkeypatch):
    monkeypatch.setenv("BUS_DIR", "/srv/bus")
    assert resolve_address(None) == Path("/srv/bus")


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("/var/state", "/var/state/bus"),
        ("", "/home/somebody/.local/state/bus"),
        ("relative", "/home/somebody/.local/state/bus"),
    ],
)
def test_without_any_hint_it_is_the_state_directory_of_the_user(monkeypatch, state, expected):
    monkeypatch.delenv("BUS_DIR", raising=False)
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("XDG_STATE_HOME", state)
    assert resolve_address(None) == Path(expected)


def test_a_kafka_cluster_is_a_clear_not_yet():
    with pytest.raises(UnsupportedVersionError, match="not supported yet"):
        resolve_address("kafka://host:9092")


@pytest.mark.parametrize("address", ["localhost:9092", "a:9092,b:9092", "10.0.0.1:9092"])
def test_a_host_and_port_is_not_taken_for_a_directory(address, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BusConfigurationError, match="looks like the address of a Kafka cluster"):
        resolve_address(address)


def test_a_directory_that_looks_like_a_host_and_port_is_still_a_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "localhost:9092").mkdir()
    assert resolve_address("localhost:9092") == tmp_path / "localhost:9092"
    assert resolve_address("./other:9092") == tmp_path / "other:9092"


@pytest.mark.parametrize("address", ["", "http://x", "a\0b", 7, ["./data"], b"data"])
def test_anything_else_is_refused(address):
    with pytest.raises(BusConfigurationError):
        resolve_address(address)
