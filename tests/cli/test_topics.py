"""`bus topics`: what people type, and what they are told."""

from pathlib import Path

import pytest

from bus.admin import Admin
from bus.broker import Broker
from tests.cli.runs import answer, done, one_line, run


def test_a_created_topic_is_listed_and_described(bus_dir: Path, broker: Broker) -> None:
    done("topics", "create", "t", "-p", "3", "-c", "retention.ms=60000", "--dir", bus_dir)
    assert answer("topics", "list", "--dir", bus_dir) == ["t"]
    assert done("topics", "list", "--dir", bus_dir).stdout == "t\n"
    (topic,) = answer("topics", "describe", "t", "--dir", bus_dir)
    assert topic["configs"]["retention.ms"] == "60000"
    assert [one["partition_index"] for one in topic["partitions"]] == [0, 1, 2]
    assert "retention.ms=60000" in done("topics", "describe", "--dir", bus_dir).stdout


def test_the_directory_may_come_from_the_environment(
    bus_dir: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUS_DIR", str(bus_dir))
    done("topics", "create", "t")
    assert answer("topics", "list") == ["t"]


def test_a_topic_that_exists_is_refused_unless_that_is_fine(bus_dir: Path, broker: Broker) -> None:
    done("topics", "create", "t", "--dir", bus_dir)
    refused = run("topics", "create", "t", "--dir", bus_dir)
    assert refused.exit_code == 1
    assert "'t' exists already" in one_line(refused)
    done("topics", "create", "t", "--if-not-exists", "--dir", bus_dir)


def test_validate_only_creates_nothing(bus_dir: Path, broker: Broker) -> None:
    done("topics", "create", "t", "--validate-only", "--dir", bus_dir)
    assert answer("topics", "list", "--dir", bus_dir) == []


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("create", "no/slash"), 2),
        (("create", "t", "-p", "5000"), 2),
        (("create", "t", "-c", "retention=1"), 2),
        (("create", "t", "-c", "retention.ms"), 2),
        (("describe", "nothing"), 1),
        (("delete", "nothing"), 1),
        (("alter", "nothing", "-c", "retention.ms=1"), 1),
        (("alter", "nothing"), 2),
    ],
)
def test_refusals_have_their_exit_codes(
    bus_dir: Path, broker: Broker, arguments: tuple[str, ...], code: int
) -> None:
    assert run("topics", *arguments, "--dir", bus_dir).exit_code == code


def test_a_misspelt_config_names_the_right_one(bus_dir: Path, broker: Broker) -> None:
    refused = run("topics", "create", "t", "-c", "retention.m=1", "--dir", bus_dir)
    assert "retention.ms" in one_line(refused)


def test_configs_change_and_go_back_and_partitions_grow(bus_dir: Path, broker: Broker) -> None:
    done("topics", "create", "t", "--dir", bus_dir)
    done("topics", "alter", "t", "-c", "retention.ms=5000", "-p", "2", "--dir", bus_dir)
    (topic,) = answer("topics", "describe", "t", "--dir", bus_dir)
    assert (topic["configs"]["retention.ms"], len(topic["partitions"])) == ("5000", 2)
    done("topics", "alter", "t", "--reset", "retention.ms", "--dir", bus_dir)
    (topic,) = answer("topics", "describe", "t", "--dir", bus_dir)
    assert topic["configs"]["retention.ms"] == str(7 * 24 * 3600 * 1000)


def test_a_deleted_topic_is_gone(bus_dir: Path, broker: Broker) -> None:
    done("topics", "create", "t", "--dir", bus_dir)
    done("topics", "delete", "t", "--dir", bus_dir)
    assert answer("topics", "list", "--dir", bus_dir) == []
    done("topics", "delete", "t", "--if-exists", "--dir", bus_dir)


def test_a_closed_admin_says_so(bus_dir: Path, broker: Broker) -> None:
    from bus.errors import ClosedError

    admin = Admin(bus_dir)
    admin.close()
    admin.close()
    with pytest.raises(ClosedError, match="make a new one"):
        admin.list_topics()
