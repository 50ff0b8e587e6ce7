"""Races of a look with those who move commits and limits, scripted; and the arithmetic."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.client import Client
from bus.lag import NOWHERE, GroupLag, Skipped, first_forbidden, records_between
from bus.lag_bytes import Behind
from bus.lag_gate import LagGate
from bus.liveness import ROLE_ADMIN
from bus.native.core import LAYOUT
from tests.lag.rig import alter, commit, limited_topic, reader, sender

OFFSETS = st.integers(0, 1 << 40)
START = LAYOUT["BUS_DATA_START"]


def gate_of(client: Client) -> LagGate:
    log = client.partition(client.topic("t"), 0)
    return LagGate(client.directory, log, lambda: client.topic("t"), client.catalog_version)


def test_a_commit_that_moves_back_while_the_words_are_written_counts(
    shared_bus: Path, monkeypatch: pytest.MonkeyPatch
):
    limited_topic(shared_bus, max_lag_records=10)
    with (
        sender(shared_bus) as producer,
        Client.connect(shared_bus, role=ROLE_ADMIN, client_id="test") as client,
    ):
        producer.send_many("t", [b""] * 100)
        with reader(shared_bus) as consumer:
            commit(consumer, 100)
            gate = gate_of(client)
            write, moves = gate._write, [40, 60]

            def write_late(found: object) -> None:
                """What was worked out is written behind a commit, which has closed the gate."""
                if moves:
                    commit(consumer, moves.pop())
                write(found)  # type: ignore[arg-type]

            monkeypatch.setattr(gate, "_write", write_late)
            assert gate.look().first == 50
            assert client.partition(client.topic("t"), 0).lag_words[0] == 51


def test_a_limit_that_changes_while_the_words_are_written_counts(
    shared_bus: Path, monkeypatch: pytest.MonkeyPatch
):
    limited_topic(shared_bus, max_lag_records=1000)
    with (
        reader(shared_bus),
        Client.connect(shared_bus, role=ROLE_ADMIN, client_id="test") as client,
    ):
        gate = gate_of(client)
        write, limits = gate._write, [10]

        def write_late(found: object) -> None:
            if limits:
                alter(shared_bus, max_lag_records=limits.pop())
            write(found)  # type: ignore[arg-type]

        monkeypatch.setattr(gate, "_write", write_late)
        assert gate.look().first == 10


def lag(offset: int) -> GroupLag:
    return GroupLag("g", 1, None, offset, 0)


@given(OFFSETS, st.integers(1, 1 << 40), OFFSETS, st.integers(0, 1 << 30))
def test_as_many_records_as_the_limit_fit_between_a_commit_and_the_first_forbidden_offset(
    offset: int, limit: int, start: int, length: int
):
    skipped = Skipped(start, start + length)
    end = max(first_forbidden([lag(offset)], limit, skipped), skipped.end)
    assert records_between(offset, end, skipped) >= limit
    assert records_between(offset, end - 1, skipped) < limit or end == skipped.end


def test_without_a_group_or_a_limit_every_offset_may_be_given_out():
    assert first_forbidden([], 5, Skipped(0, 0)) == NOWHERE - 1
    assert first_forbidden([lag(3)], -1, Skipped(0, 0)) == NOWHERE - 1


@given(st.integers(0, 1 << 20), st.integers(1, 1 << 22), st.integers(0, 1 << 20))
def test_a_place_lies_as_many_bytes_ahead_as_are_left_or_where_the_next_segment_begins(
    behind: int, limit: int, ahead: int
):
    size, position = 1 << 20, START + ahead % ((1 << 20) - START)
    place = Behind(behind, 7, position, size).place_of(limit)
    if position + limit - behind < size:
        assert place == 7 << 32 | max(position + limit - behind, 0)
    else:
        assert place == 8 << 32 | START
