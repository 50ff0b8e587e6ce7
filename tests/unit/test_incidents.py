"""Incidents: counted for the whole bus in bus.ctl, logged with their cause."""

import signal
from pathlib import Path

import pytest

import bus
from bus.client import Client
from bus.incidents import Incident, Incidents
from bus.liveness import ROLE_ADMIN
from tests.children import Fork, Report
from tests.waiting import eventually


def test_an_incident_is_counted_and_logged_with_its_cause(
    bus_dir: Path, broker: bus.Broker, caplog: pytest.LogCaptureFixture
) -> None:
    with Client.connect(bus_dir, role=ROLE_ADMIN, client_id="here") as client:
        client.incidents.note(Incident.GAP_REPORTED, "records %d to %d are gone", 3, 5)
        assert Incidents(client.control).counts()["gap_reported"] == 1
        assert client.call("status")["counters"]["gap_reported"] == 1
    assert "records 3 to 5 are gone" in caplog.text


def test_every_kind_has_its_own_word() -> None:
    assert len({int(kind) for kind in Incident}) == len(Incident.__members__)


def test_a_death_is_counted_where_it_is_met(bus_dir: Path, broker: bus.Broker, fork: Fork) -> None:
    def attach_and_wait(report: Report) -> None:
        with bus.Producer(bus_dir):
            report("attached")
            signal.pause()

    child = fork(attach_and_wait)
    child.next()
    child.kill()
    with Client.connect(bus_dir, role=ROLE_ADMIN, client_id="here") as client:
        eventually(
            lambda: client.call("status")["counters"]["client_reaped"] == 1,
            5.0,
            "the dead producer is reaped",
        )
