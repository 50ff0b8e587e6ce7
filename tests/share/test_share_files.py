"""What a share group keeps in files and in shared memory, and what comes of harm to it."""

import json
import os
from collections.abc import Callable
from mmap import mmap
from pathlib import Path

import pytest
from click.testing import CliRunner

from bus import Admin, Broker, NewTopic, Producer, ShareConsumer
from bus.check import check_directory
from bus.cli.groups import groups
from bus.directory import BusDirectory
from bus.errors import CorruptRecordError, CorruptSegmentError
from bus.kept_acks import believed
from bus.native.core import LAYOUT
from bus.repair import repair_directory
from tests.share.test_share_consumer import WORK, claimed, values
from tests.share.test_share_deaths import member_of, send

#: of ten records: done are 3 to 6
DONE, LEFT = [3, 4, 5, 6], [0, 1, 2, 7, 8, 9]


def a_group_at_rest(bus_dir: Path) -> Path:
    """The file that it has left; nothing is committed."""
    with Broker(bus_dir):
        send(bus_dir, 10)
        with member_of(bus_dir) as member:
            member.ack(*claimed(member, 10)[3:7])
    return bus_dir / "groups" / "team.acks"


def what_comes(bus_dir: Path, count: int) -> list[int]:
    with Broker(bus_dir), member_of(bus_dir) as member:
        found = values(claimed(member, count))
        assert member.poll() == {}
    return sorted(found)


def spoil(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def damages(bus_dir: Path) -> str:
    return "\n".join(map(str, check_directory(bus_dir)))


def test_one_damaged_copy_costs_nothing_and_is_restored(bus_dir: Path) -> None:
    file = a_group_at_rest(bus_dir)
    assert damages(bus_dir) == ""
    spoil(file)
    assert "team.acks" in damages(bus_dir)
    assert what_comes(bus_dir, len(LEFT)) == LEFT
    assert damages(bus_dir) == ""


def test_a_damaged_file_is_told_and_what_is_not_done_comes_again(bus_dir: Path) -> None:
    file = a_group_at_rest(bus_dir)
    spoil(file)
    spoil(Path(f"{file}.copy"))
    assert "team.acks" in damages(bus_dir)
    assert what_comes(bus_dir, 10) == list(range(10))


def test_a_repair_drops_what_nobody_can_believe_and_says_so(bus_dir: Path) -> None:
    file = a_group_at_rest(bus_dir)
    spoil(file)
    spoil(Path(f"{file}.copy"))
    outcome = repair_directory(bus_dir)
    assert not outcome.damages
    (done,) = [one for one in outcome.repairs if one.file == "groups/team.acks"]
    assert done.lost and "comes again" in done.what
    assert what_comes(bus_dir, 10) == list(range(10))


def test_a_file_whose_group_is_gone_is_found_and_dropped(bus_dir: Path) -> None:
    file = a_group_at_rest(bus_dir)
    for name in (file, Path(f"{file}.copy")):
        name.rename(name.with_name(name.name.replace("team", "other")))
    with BusDirectory.open(bus_dir) as directory:  # sealed for its new name: whole, but nobody's
        content = {"group": "other", "group_id": 1, "tables": {}}
        directory.write_truth("groups/other.acks", content)
    assert "no group 'other'" in damages(bus_dir)
    outcome = repair_directory(bus_dir)
    assert not outcome.damages
    assert not (bus_dir / "groups" / "other.acks").exists()


@pytest.mark.parametrize(
    "table",
    [
        [0, 10, [[0, 10]]],
        [10, 0, [], []],
        [0, 1 << 40, [], []],
        [0, 10, [[5, 20]], []],
        [0, 10, [[4, 6], [5, 7]], []],
        [0, 10, [[3, 3]], []],
        [0, 10, [], [[10, 0, [0] * 8]]],
        [0, 10, [], [[1, 0, [0] * 8], [1, 0, [0] * 8]]],
        [0, 10, [], [[1, 0, [256] * 8]]],
        [0, 10, [], [[1, 0, [0] * 9]]],
        [0, 10, [], [[1, -1, [0] * 8]]],
        [0.0, 10, [], []],
        [True, 10, [], []],
        "nonsense",
        None,
    ],
)
def test_what_contradicts_itself_is_not_believed(table: object) -> None:
    good = {"group": "team", "group_id": 3, "tables": {"7-0": [0, 10, [[3, 7]], []]}}
    assert believed(good, "team", 3)[7, 0].done == [(3, 7)]
    with pytest.raises(ValueError, match="partition 7-0"):
        believed({**good, "tables": {"7-0": table}}, "team", 3)


def test_what_another_group_has_kept_is_not_believed() -> None:
    good = {"group": "team", "group_id": 3, "tables": {}}
    for wrong in ({"group": "other"}, {"group_id": 4}, {"tables": []}):
        with pytest.raises(ValueError, match=r"group|tables"):
            believed({**good, **wrong}, "team", 3)
    with pytest.raises(ValueError, match="no partition"):
        believed({**good, "tables": {"7": []}}, "team", 3)


# ------------------------------------------------------------------------ in shared memory


def table_of(bus_dir: Path) -> Path:
    runtime = BusDirectory.open(bus_dir).read_runtime()
    assert runtime is not None
    (table,) = Path(runtime.hot_dir).glob("acks-*.ctl")
    return table


def write_word(name: str) -> Callable[[Path], None]:
    def write(table: Path) -> None:
        with table.open("r+b") as file:
            file.seek(LAYOUT[f"bus_acks.{name}"])
            file.write(os.urandom(7) + b"\x7f")

    return write


@pytest.mark.parametrize("word", ["low", "base", "next"])
def test_a_table_that_was_overwritten_is_an_error_and_nothing_of_it_is_skipped(
    bus_dir: Path, word: str
) -> None:
    with Broker(bus_dir):
        send(bus_dir, 10)
        with member_of(bus_dir) as member:
            records = claimed(member, 10)
            member.ack(*records[3:7])
            write_word(word)(table_of(bus_dir))
            with pytest.raises(CorruptSegmentError, match="overwritten"):
                member.ack(records[0])
            with pytest.raises(CorruptSegmentError, match="overwritten"):
                member.close()
    found = what_comes_at_least(bus_dir)
    assert set(LEFT) <= set(found)


def what_comes_at_least(bus_dir: Path) -> list[int]:
    with Broker(bus_dir), member_of(bus_dir) as member:
        found: list[int] = []
        while records := [one for some in member.poll(500).values() for one in some]:
            found += values(records)
    return found


@pytest.mark.parametrize("name", ["magic", "topic_id"])
def test_bus_check_knows_the_headers_of_ack_tables(bus_dir: Path, name: str) -> None:
    with Broker(bus_dir):
        send(bus_dir, 1)
        with member_of(bus_dir) as member:
            claimed(member, 1)
            table = table_of(bus_dir)
            whole = table.read_bytes()[:4096]
            write_word(name)(table)
            assert f"{table} at {LAYOUT['bus_acks.' + name]}: {name}" in damages(bus_dir)
            with table.open("r+b") as file:
                file.write(whole)
        assert damages(bus_dir) == ""


def test_a_new_broker_drops_a_table_that_was_cut(bus_dir: Path) -> None:
    broker = Broker(bus_dir).start()
    send(bus_dir, 10)
    with member_of(bus_dir) as member:
        member.ack(*claimed(member, 10)[3:7])
    broker_pid = broker.pid
    os.kill(broker_pid, 9)
    broker.stop()
    os.truncate(table_of(bus_dir), 4096)
    assert set(LEFT) <= set(what_comes_at_least(bus_dir))


# ---------------------------------------------------------------------- what people are shown


def test_a_share_group_is_listed_and_described_as_one(bus_dir: Path) -> None:
    with Broker(bus_dir), member_of(bus_dir) as member, Admin(bus_dir) as admin:
        send(bus_dir, 6)
        records = claimed(member, 5)
        member.ack(records[0])
        member.reject(records[1])
        member.nack(records[2], delay_ms=60_000)
        shown = CliRunner().invoke(groups, ["describe", "team", "--dir", str(bus_dir)])
        assert shown.exit_code == 0, shown.output
        (row,) = [line for line in shown.output.splitlines() if line.split()[-1:] == ["1"]]
        # topic, partition, low, next, in flight, ready, delayed, waiting, overtaken, dead
        assert row.split() == ["work", "0", "2", "5", "2", "0", "1", "0", "0", "1"]
        as_json = CliRunner().invoke(groups, ["describe", "team", "--json", "--dir", str(bus_dir)])
        assert json.loads(as_json.output)["shares"][0]["in_flight"] == 2
        listed = CliRunner().invoke(groups, ["list", "--dir", str(bus_dir)])
        assert "share" in listed.output
        assert admin.describe_shares("team")[WORK]["delayed"] == 1


# ------------------------------------------------------------------ records that are damaged


def harmed(bus_dir: Path, numbers: set[int], topics: tuple[str, ...] = ("work",)) -> None:
    """Ten records in each topic, in memory alone, of which these cannot be read."""
    with Admin(bus_dir) as admin, Producer(bus_dir) as producer:
        for topic in topics:
            admin.create_topics([NewTopic(topic, 1, topic_configs={"durability": "memory"})])
            for number in range(10):
                producer.send(topic, b"record %d." % number)
    runtime = BusDirectory.open(bus_dir).read_runtime()
    assert runtime is not None
    for file in Path(runtime.hot_dir).glob("*.seg"):
        with file.open("r+b") as segment, mmap(segment.fileno(), 0) as memory:
            for number in numbers:
                if (at := memory.find(b"record %d." % number)) > 0:
                    memory[at] ^= 1


def test_a_damaged_record_between_good_ones_is_told_once_and_the_others_are_given(
    broker: Broker, bus_dir: Path
) -> None:
    harmed(bus_dir, {3, 4, 7})
    told, given = [], []
    with member_of(bus_dir) as one, member_of(bus_dir) as other:
        for member in [one, other] * 10:
            try:
                records = [record for some in member.poll().values() for record in some]
            except CorruptRecordError as error:
                told.append((error.offset, error.next_offset))
                continue
            given += [record.offset for record in records]
            member.ack(*records)
        assert one.in_flight() == other.in_flight() == 0
    assert told == [(3, 5), (7, 8)]
    assert sorted(given) == [0, 1, 2, 5, 6, 8, 9]


def test_a_damaged_record_is_told_although_other_topics_have_good_ones(
    broker: Broker, bus_dir: Path
) -> None:
    harmed(bus_dir, {0}, topics=("left", "right"))
    told, given = 0, 0
    with ShareConsumer("left", "right", bootstrap_servers=bus_dir, group_id="team") as member:
        for _ in range(30):
            try:
                records = [one for some in member.poll(max_records=3).values() for one in some]
            except CorruptRecordError:
                told += 1
                continue
            given += len(records)
            member.ack(*records)
    assert (told, given) == (2, 18)


def test_an_iteration_tells_of_a_damaged_record_and_goes_on(broker: Broker, bus_dir: Path) -> None:
    harmed(bus_dir, {1})
    with ShareConsumer(
        "work", group_id="team", bootstrap_servers=bus_dir, consumer_timeout_ms=200
    ) as member:
        assert next(member).offset == 0
        with pytest.raises(CorruptRecordError, match="offset 1"):
            next(member)
        assert [record.offset for record in member] == list(range(2, 10))
