"""Dead letters are sent again: as they were, to where they came from, each one once."""

import pytest

import bus
from tests.workers import handlers
from tests.workers.pool_rig import Shop
from workers import DeadLetter, Redriven, Retry, redrive
from workers.errors import DeadLetterError
from workers.letters import topic_of

#: A busy machine takes its time to start so many processes.
pytestmark = pytest.mark.timeout(150)


@pytest.fixture
def with_letters(shop: Shop) -> Shop:
    """A bus with dead letters of the records 7, 17 and 27."""
    with bus.Admin(shop.directory) as admin:
        admin.create_topics([bus.NewTopic(shop.topic, num_partitions=2)])
    shop.send(30)
    once = Retry(failure=1)
    with shop.at_work(handlers.fails_on_sevens, "first", retry=once, dead_letter=True) as bench:
        bench.settled(30)
    return shop


def test_letters_are_sent_again_and_can_be_done_then(with_letters: Shop) -> None:
    assert redrive(
        with_letters.dead_letter_topic, bootstrap_servers=str(with_letters.directory)
    ) == Redriven(sent=3, left=0)
    with with_letters.at_work(handlers.notes, "second") as bench:
        bench.settled(3)
        assert sorted(bench.numbers("done")) == [7, 17, 27]
    # each was looked at once
    assert redrive(
        with_letters.dead_letter_topic, bootstrap_servers=str(with_letters.directory)
    ) == Redriven(sent=0, left=0)


def test_only_those_that_are_wanted_are_sent_without_what_was_told(with_letters: Shop) -> None:
    seen: list[int] = []

    def wanted(letter: DeadLetter) -> bool:
        assert letter.told["reason"] == "failure 1 of 1"
        return letter.record.value == b"17"

    done = redrive(
        with_letters.dead_letter_topic,
        bootstrap_servers=str(with_letters.directory),
        only=wanted,
        to_topic=f"again-{with_letters.topic}",
        progress=seen.append,
    )
    assert (done, seen) == (Redriven(sent=1, left=2), [3])
    with bus.Consumer(
        f"again-{with_letters.topic}",
        bootstrap_servers=with_letters.directory,
        auto_offset_reset="earliest",
        consumer_timeout_ms=1000,
    ) as consumer:
        [record] = list(consumer)
    assert (record.value, record.headers) == (b"17", [])


def test_a_limit_is_kept_and_the_next_call_goes_on(with_letters: Shop) -> None:
    topic, address = with_letters.dead_letter_topic, str(with_letters.directory)
    assert redrive(topic, bootstrap_servers=address, limit=2) == Redriven(sent=2, left=0)
    assert redrive(topic, bootstrap_servers=address, limit=2) == Redriven(sent=1, left=0)


def test_a_letter_goes_back_to_its_partition_and_dies_again_with_fresh_counts(
    with_letters: Shop,
) -> None:
    redrive(with_letters.dead_letter_topic, bootstrap_servers=str(with_letters.directory))
    once = Retry(failure=1)
    with with_letters.at_work(handlers.fails_on_sevens, retry=once, dead_letter=True) as bench:
        bench.settled(3)
    letters = with_letters.dead_letters()
    assert len(letters) == 6
    for first, second in zip(letters[:3], letters[3:], strict=True):
        assert second.value in {letter.value for letter in letters[:3]}
        assert second.headers["dlq.deliveries"] == "1"
        assert set(second.headers) == set(first.headers)
    places = [
        {(one.value, one.headers["dlq.partition"]) for one in half}
        for half in (letters[:3], letters[3:])
    ]
    assert places[0] == places[1]


def test_what_is_no_dead_letter_is_refused(shop: Shop) -> None:
    shop.send(1)
    with pytest.raises(DeadLetterError, match="header 'topic' is missing"):
        redrive(shop.topic, bootstrap_servers=str(shop.directory))


def test_the_topic_of_dead_letters_has_a_name_that_a_topic_can_have() -> None:
    assert topic_of("jobs", "shop.orders:handle") == "dlq.jobs.shop.orders-handle"
