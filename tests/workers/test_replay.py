"""Records of any range are worked on once more: in their group, or here."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import bus
import workers
from bus.errors import UnknownTopicOrPartitionError
from tests.waiting import eventually
from tests.workers.handlers import passes_async
from tests.workers.pool_rig import Shop
from workers.cli.main import main
from workers.dead_letters import DeadLetters
from workers.dead_letters import make_topic as make_dead_letters
from workers.errors import ReplayError
from workers.flight_topic import make_topic as make_flight
from workers.letters import Letter
from workers.retry import Counts

pytestmark = pytest.mark.timeout(150)


def again(shop: Shop, **options: Any) -> workers.Replayed:
    return workers.replay(
        shop.topic, group=shop.topic, bootstrap_servers=str(shop.directory), **options
    )


class Worker:
    """A member of the group in this process: it does what it is given, but for sevens."""

    def __init__(self, shop: Shop) -> None:
        self._address = str(shop.directory)
        self._consumer = bus.ShareConsumer(
            shop.topic, bootstrap_servers=shop.directory, group_id=shop.topic
        )
        self._letters = DeadLetters(self._address, shop.topic, shop.topic)
        self.done: list[tuple[int, bytes]] = []

    def does(self, count: int) -> list[bytes]:
        """Works on so many records, and returns their values."""
        begun = len(self.done)
        while len(self.done) < begun + count:
            for records in self._consumer.poll(5000).values():
                for record in records:
                    self.done.append((record.offset, record.value))
                    self._settle(record)
        return [value for _, value in self.done[begun:]]

    def commits(self, offset: int) -> None:
        """Says so on the bus; a member does as it polls."""
        where = bus.TopicPartition("jobs", 0)

        def committed() -> bool:
            assert not self._consumer.poll(10)
            offsets = admin.list_group_offsets("jobs")["jobs"]
            return where in offsets and offsets[where].offset == offset

        with bus.Admin(self._address) as admin:
            eventually(committed, 50.0, "what is done is committed")

    def _settle(self, record: Any) -> None:
        if record.value != b"7":
            self._consumer.ack(record)
            return
        error = ValueError("no sevens")
        letter = Letter.of(record, "jobs", "failure", deliveries=1, counts=Counts(1), error=error)
        self._letters.write(record, letter, may_be_there=False)
        self._consumer.reject(record)

    def close(self) -> None:
        self._letters.close()
        self._consumer.close()


@pytest.fixture
def worker(shop: Shop) -> Iterator[Worker]:
    """One that has done 0 to 9, but for 7, which is dead."""
    make_dead_letters(str(shop.directory), shop.topic, shop.topic)
    make_flight(str(shop.directory), shop.topic, "memory")
    shop.send(10)
    worker = Worker(shop)
    worker.does(10)
    worker.commits(10)
    yield worker
    worker.close()


def test_a_range_is_worked_on_once_more_with_fresh_counts(shop: Shop, worker: Worker) -> None:
    assert again(shop, start=5, end=8) == workers.Replayed(3, 0)
    assert worker.does(3) == [b"5", b"6", b"7"]
    offsets = [letter.headers["dlq.offset"] for letter in shop.dead_letters()]
    assert offsets == ["7", "12"]
    where = bus.TopicPartition(shop.topic, 0)
    with bus.Consumer(bootstrap_servers=shop.directory) as consumer:
        consumer.assign([where])
        consumer.seek(where, 10)
        [first, *_] = consumer.poll(5000)[where]
        assert (first.value, first.headers) == (b"5", [("replay.of", b"jobs:0:5")])
    found = workers.flight("jobs", 0, 10, group="jobs", bootstrap_servers=str(shop.directory))
    assert found.came_from == "jobs:0:5"
    story = workers.flight("jobs", 0, 5, group="jobs", bootstrap_servers=str(shop.directory))
    assert [(note.outcome.name, note.text) for note in story.notes] == [("REPLAYED", "jobs:0:10")]


def test_only_the_dead_of_a_range_and_each_of_them_once(shop: Shop, worker: Worker) -> None:
    assert again(shop, only="dead", end=7).sent == 0
    assert again(shop, only="dead").sent == 1
    assert worker.does(1) == [b"7"]
    assert again(shop, only="dead", end=10).sent == 1  # the letter of the replay is of another one
    assert worker.does(1) == [b"7"]


def test_a_range_of_times(shop: Shop, worker: Worker) -> None:
    hour = timedelta(hours=1)
    now = datetime.now(UTC)
    assert again(shop, start=now + hour).sent == 0
    assert again(shop, end=now - hour).sent == 0
    assert again(shop, start=now - hour, end=now + hour).sent == 10
    assert len(worker.does(10)) == 10


def test_what_the_group_has_not_passed_is_left_to_be_worked_on(shop: Shop) -> None:
    shop.send(5)
    assert again(shop) == workers.Replayed(0, 5)


def test_it_is_refused_if_other_groups_would_see_the_records_again(
    shop: Shop, worker: Worker
) -> None:
    with bus.ShareConsumer(shop.topic, bootstrap_servers=shop.directory, group_id="audit") as other:
        found = eventually(lambda: other.poll(1000), what="the other group has records")
        for records in found.values():
            other.ack(*records)
    with pytest.raises(ReplayError, match="'audit' read 'jobs' as well"):
        again(shop)
    assert again(shop, end=1, beside_others=True).sent == 1
    assert worker.does(1) == [b"0"]
    assert again(shop, end=2, to_topic="other").sent == 2
    with bus.Consumer("other", bootstrap_servers=shop.directory, group_id="o") as consumer:
        consumer.seek_to_beginning()
        values = [record.value for records in consumer.poll(5000).values() for record in records]
    assert values[:1] == [b"0"]


def test_what_makes_no_sense_is_refused(shop: Shop) -> None:
    with pytest.raises(UnknownTopicOrPartitionError):
        again(shop)
    with bus.Admin(shop.directory) as admin:
        admin.create_topics([bus.NewTopic(shop.topic, 2)])
    with pytest.raises(ReplayError, match="has 2 partitions: say which one"):
        again(shop, start=3)
    with pytest.raises(ReplayError, match='must be "all" or "dead"'):
        again(shop, only="some")
    with pytest.raises(UnknownTopicOrPartitionError, match="partition 5"):
        again(shop, partition=5)


def test_one_record_is_worked_on_in_this_process(shop: Shop) -> None:
    shop.send(10)
    address = str(shop.directory)

    def handler(record: Any, state: list[int]) -> tuple[bytes, str]:
        state.append(1)
        return record.value, workers.current().uid

    left: list[list[int]] = []
    options = {"init": list, "exit": left.append, "bootstrap_servers": address}
    assert workers.replay_here(handler, "jobs", 0, 7, **options) == (b"7", "jobs:0:7")
    assert left == [[1]]

    async def waits(record: Any) -> bytes:
        await passes_async(0.001)
        return bytes(record.value + workers.current().uid.encode())

    found = workers.replay_here(waits, "jobs", 0, 3, bootstrap_servers=address)
    assert found == b"3jobs:0:3"
    with pytest.raises(ZeroDivisionError):
        workers.replay_here(lambda record: 1 // 0, "jobs", 0, 3, bootstrap_servers=address)
    with pytest.raises(ReplayError, match="no record jobs:0:10; the log has 0 up to 9"):
        workers.replay_here(print, "jobs", 0, 10, bootstrap_servers=address)


def test_the_command_line_replays_in_the_group_and_here(
    shop: Shop, worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUS_DIR", str(shop.directory))

    def call(*words: str) -> Any:
        return CliRunner().invoke(main, ["replay", "jobs", *words])

    done = call("-g", "jobs", "--from", "2", "--to", "4", "--json")
    assert json.loads(done.stdout) == {"sent": 2, "left": 0}
    assert worker.does(2) == [b"2", b"3"]
    (tmp_path / "late_shop.py").write_text(
        "def handle(record):\n    return 10 // (int(record.value) - 3)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    done = call("--from", "2", "--to", "4", "--local", "late_shop:handle")
    assert done.exit_code == 1
    assert "jobs:0:2: returned -10" in done.output
    assert "jobs:0:3: ZeroDivisionError" in done.output
    assert call("--from", "4", "--to", "5", "--local", "late_shop:handle").exit_code == 0
    assert call("-g", "jobs", "--from", "noon").exit_code == 2
    assert call().exit_code == 2
    assert "sends nothing anywhere" in call("--local", "late_shop:handle", "--only", "dead").output
