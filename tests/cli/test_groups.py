"""`bus groups`: members, lag, and where a group shall read on."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import bus
from bus.broker import Broker
from bus.structs import TopicPartition
from tests.cli.runs import answer, done, one_line, run

T0 = TopicPartition("t", 0)
START_MS = 1_700_000_000_000


@pytest.fixture
def ten(bus_dir: Path, broker: Broker) -> Path:
    """A bus with ten records a second apart in topic t; group g has committed offset 4."""
    with bus.Producer(bus_dir) as producer:
        for number in range(10):
            producer.send("t", b"%d" % number, timestamp_ms=START_MS + 1000 * number)
        producer.flush()
    with bus.Admin(bus_dir) as admin:
        admin.alter_group_offsets("g", {T0: 4})
    return bus_dir


def committed(path: Path) -> int:
    (row,) = answer("groups", "describe", "g", "--dir", path)["partitions"]
    return int(row["committed"])


def reset(path: Path, *place: str) -> Any:
    return done("groups", "reset-offsets", "g", "-t", "t", *place, "--dir", path)


def test_a_group_is_listed_and_described_with_its_lag(ten: Path) -> None:
    (group,) = answer("groups", "list", "--dir", ten)
    assert (group["group_id"], group["members"]) == ("g", 0)
    described = answer("groups", "describe", "g", "--dir", ten)
    assert described["partitions"] == [
        {
            "topic": "t",
            "partition": 0,
            "committed": 4,
            "log_end_offset": 10,
            "lag": 6,
            "producers": None,
            "owner": None,
        }
    ]
    assert "generation" in done("groups", "describe", "g", "--dir", ten).stdout


def test_members_are_shown_with_what_they_own(ten: Path) -> None:
    with bus.Consumer("t", bootstrap_servers=ten, group_id="g", client_id="me") as consumer:
        consumer.poll(timeout_ms=1000)
        described = answer("groups", "describe", "g", "--dir", ten)
        (member,) = described["members"]
        assert (member["client_id"], member["partitions"]) == ("me", ["t:0"])
        assert "me" in described["partitions"][0]["owner"]


@pytest.mark.parametrize(
    ("place", "offset"),
    [
        (("--to-earliest",), 0),
        (("--to-latest",), 10),
        (("--to-offset", "7"), 7),
        (("--to-offset", "99"), 10),
        (("--shift-by", "2"), 6),
        (("--shift-by", "-9"), 0),
        (("--to-datetime", datetime.fromtimestamp(START_MS / 1000 + 3, UTC).isoformat()), 3),
        (("--to-datetime", "2100-01-01"), 10),
    ],
)
def test_each_place_is_found_and_set_only_with_execute(
    ten: Path, place: tuple[str, ...], offset: int
) -> None:
    shown = reset(ten, *place, "--dry-run")
    assert "nothing was changed" in shown.stderr
    assert committed(ten) == 4
    reset(ten, *place, "--execute")
    assert committed(ten) == offset


def test_a_plan_is_printed_for_machines(ten: Path) -> None:
    plan = answer("groups", "reset-offsets", "g", "--all-topics", "--to-offset", "5", "--dir", ten)
    assert plan == [{"topic": "t", "partition": 0, "current": 4, "new": 5}]


def test_a_group_with_members_is_not_reset_and_not_deleted(ten: Path) -> None:
    with bus.Consumer("t", bootstrap_servers=ten, group_id="g") as consumer:
        consumer.poll(timeout_ms=1000)
        arguments = ("groups", "reset-offsets", "g", "-t", "t", "--to-earliest", "--execute")
        for refused in (
            run(*arguments, "--dir", ten),
            run("groups", "delete", "g", "--dir", ten),
        ):
            assert refused.exit_code == 1
            assert "pid" in one_line(refused)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("-t", "t"), 2),
        (("-t", "t", "--to-earliest", "--to-latest"), 2),
        (("--to-earliest",), 2),
        (("-t", "t", "--to-earliest", "--dry-run", "--execute"), 2),
        (("-t", "t", "--to-datetime", "soon"), 2),
        (("-t", "t:x", "--to-earliest"), 2),
        (("-t", "t:9", "--to-earliest"), 1),
        (("-t", "nothing", "--to-earliest"), 1),
    ],
)
def test_resets_that_make_no_sense_are_refused(
    ten: Path, arguments: tuple[str, ...], code: int
) -> None:
    assert run("groups", "reset-offsets", "g", *arguments, "--dir", ten).exit_code == code


def test_a_new_group_can_be_given_offsets_but_not_shifted(ten: Path) -> None:
    new = ("groups", "reset-offsets", "new", "-t", "t:0", "--dir", ten)
    assert run(*new, "--shift-by", "1").exit_code == 2
    done(*new, "--to-offset", "3", "--execute")
    described = answer("groups", "describe", "new", "--dir", ten)
    assert described["partitions"][0]["committed"] == 3


def test_a_deleted_group_is_gone(ten: Path) -> None:
    done("groups", "delete", "g", "--dir", ten)
    assert answer("groups", "list", "--dir", ten) == []
    assert run("groups", "describe", "g", "--dir", ten).exit_code == 1
