"""The flight record: what became of a record, and why, is told afterwards."""

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

import bus
import workers
from tests.waiting import eventually
from tests.workers import handlers
from tests.workers.pool_rig import Bench, Shop
from workers.attempts import Outcome
from workers.cli.main import main
from workers.errors import FlightRecordError, PoolOptionError
from workers.flight_note import TEXT_BYTES_MAX, headers, notes_in, packed, place
from workers.flight_ring import FlightRing

if TYPE_CHECKING:
    from bus.broker import Broker

pytestmark = pytest.mark.timeout(150)
RECORDED = {"flight_record": True, "dead_letter": True}


def story(shop: Shop, offset: int) -> workers.Flight:
    return workers.flight(
        shop.topic, 0, offset, group=shop.topic, bootstrap_servers=str(shop.directory)
    )


def outcomes(found: workers.Flight) -> list[tuple[int, str]]:
    return [(number, note.outcome.name) for number, note in found.numbered()]


def why(shop: Shop, offset: int) -> str:
    words = ["why", shop.topic, "0", str(offset), "-g", shop.topic, "-d", str(shop.directory)]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    return str(done.output)


def test_a_worker_that_was_killed_in_the_middle_is_named_as_the_reason_for_the_second_try(
    shop: Shop,
) -> None:
    shop.send(1)
    with shop.at_work(handlers.waits_for_a_kill, processes=1, **RECORDED) as bench:
        bench.until("begin")
        [victim] = [int(words[2]) for words in bench.said("begin")]
        assert [one.pid for one in story(shop, 0).in_hand] == [victim]
        assert f"worker {victim} has it now" in why(shop, 0)
        os.kill(victim, signal.SIGKILL)
        bench.settled(1)
    found = story(shop, 0)
    assert outcomes(found) == [(1, "DIED"), (2, "DONE")]
    died, done = found.notes
    assert (died.pid, found.begun) == (victim, 2)
    assert died.text == f"worker process {victim} was ended by SIGKILL; counted as crash"
    assert done.pid != victim
    assert done.begun_ns >= died.begun_ns + died.took_ns - 50_000_000
    told = why(shop, 0)
    assert f"its worker died: worker process {victim} was ended by SIGKILL" in told
    assert "begun 2 times: done 1, its worker died 1" in told
    assert "the group has passed it" in told


def test_each_attempt_is_told_with_its_error_up_to_the_dead_letter_and_its_redrive(
    shop: Shop,
) -> None:
    shop.send(9)
    retry = workers.Retry(failure=2, first_delay_s=0.001, jitter=0.0)
    with shop.at_work(handlers.fails_on_sevens, retry=retry, **RECORDED) as bench:
        bench.settled(9)
        redriven = workers.redrive(shop.dead_letter_topic, bootstrap_servers=str(shop.directory))
        assert redriven.sent == 1
        bench.settled(10)
    found = story(shop, 7)
    assert outcomes(found) == [(1, "FAILED"), (2, "FAILED"), (2, "REDRIVEN")]
    first, second, moved = found.notes
    error = "tests.workers.handlers.Unpicklable: 7 is a seven"
    assert (first.text, second.text) == (
        f"{error}; again in 0.001 s",
        f"{error}; given up: failure 2 of 2",
    )
    assert moved.text == f"{shop.topic}:0:9"
    assert first.cpu_ns > 0
    [letter] = found.letters
    assert letter.told["reason"] == "failure 2 of 2"
    assert story(shop, 9).came_from == f"{shop.topic}:0:7"
    told = why(shop, 7)
    assert f"its dead letter was sent again as {shop.topic}:0:9" in told
    assert f"dead letter {shop.dead_letter_topic}:0:0: failure 2 of 2" in told
    assert outcomes(story(shop, 3)) == [(1, "DONE")]


def test_a_handler_that_returned_before_its_worker_died_ran_once_for_that(shop: Shop) -> None:
    shop.send(1)
    with shop.at_work(handlers.dies_before_the_ack, processes=1, **RECORDED) as bench:
        bench.settled(1)
    found = story(shop, 0)
    assert outcomes(found) == [(1, "DONE"), (1, "DIED"), (2, "DONE")]
    assert found.begun == 2


def test_a_durable_record_outlives_the_broker_and_its_pool(shop: Shop, broker: "Broker") -> None:
    shop.send(1)
    with shop.at_work(handlers.notes, flight_record="durable") as bench:
        bench.settled(1)
    broker.stop()
    broker.start()
    assert outcomes(story(shop, 0)) == [(1, "DONE")]


def test_a_group_without_a_record_is_told_how_to_get_one(shop: Shop) -> None:
    shop.send(1)
    with pytest.raises(FlightRecordError, match="start its pool with flight_record=True"):
        story(shop, 0)


def test_a_record_of_which_nothing_is_known_is_said_to_be_unknown(shop: Shop) -> None:
    shop.send(1)
    with shop.at_work(handlers.notes, **RECORDED) as bench:
        bench.settled(1)
    words = ["why", shop.topic, "0", "99", "-g", shop.topic, "-d", str(shop.directory)]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1
    assert "no attempt at it is on record" in done.output


def test_more_notes_than_a_ring_holds_are_all_recorded(shop: Shop) -> None:
    shop.send(20_000)
    with shop.at_work(handlers.does_nothing, processes=1, **RECORDED) as bench:
        bench.settled(20_000)
        assert lost(bench) == 0
    place = bus.TopicPartition(f"flight.{shop.topic}", 0)
    count = 0
    with bus.Consumer(bootstrap_servers=shop.directory) as consumer:
        consumer.assign([place])
        consumer.seek_to_beginning()
        end = consumer.end_offsets([place])[place]
        while consumer.position(place) < end:
            for record in consumer.poll(1000).get(place, []):
                count += sum(1 for _ in notes_in(record.value, record.headers))
    assert count == 20_000


def lost(bench: Bench) -> int:
    return sum(ring.lost for ring in bench.pool._supervisor.board.rings)


def test_an_unknown_way_of_keeping_is_refused(shop: Shop) -> None:
    with pytest.raises(PoolOptionError, match="flight_record must be"):
        workers.Pool(shop.topic, print, bootstrap_servers=shop.directory, flight_record="paper")


def test_a_note_is_read_as_it_was_written() -> None:
    first = packed(Outcome.FAILED, 300, 1, 7, 1 << 40, 5, 6, 7, "é" * TEXT_BYTES_MAX)
    second = packed(200, 1, 0, 0, 0, 0, 0, 0)  # of a later version
    third = packed(Outcome.DONE, 1, 0, 2, 3, 4, 5, 6)
    told = headers(99, ["a", "b"])
    found = list(notes_in(first + second + third, told))
    assert [(one.topic, one.partition, one.offset) for one in found] == [
        ("b", 7, 1 << 40),
        ("a", 2, 3),
    ]
    assert (found[0].attempt, found[0].pid, found[1].text) == (255, 99, "")
    assert found[0].text.startswith("éé")
    assert place(7, 1 << 40) in first
    assert list(notes_in(first[:20], told)) == list(notes_in(b"\0" * 100, told)) == []


def test_a_ring_gives_back_what_was_put_around_its_end_and_counts_what_it_has_no_room_for() -> None:
    ring = FlightRing(memoryview(bytearray(64 + 100)))
    for _ in range(50):
        assert ring.put(b"a" * 30) == 30
        assert ring.put(b"b" * 40) == 70
        ring.put(b"c" * 40)
        assert ring.take() == b"a" * 30 + b"b" * 40
        assert ring.take() == b""
    assert ring.lost == 50


def test_the_notes_of_a_worker_that_was_killed_are_all_there(shop: Shop, tmp_path: Path) -> None:
    shop.send(200)
    with shop.at_work(handlers.kills_on_5, processes=1, **RECORDED) as bench:
        bench.settled(200)
    assert outcomes(story(shop, 5)) == [(1, "DIED"), (2, "DIED"), (3, "GIVEN_UP")]
    for offset in (0, 4, 6, 199):
        assert outcomes(story(shop, offset))[-1][1] == "DONE"
    eventually(lambda: story(shop, 5).passed, what="the group has passed it")
