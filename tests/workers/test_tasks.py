"""What executors are made of, decided without processes: tickets, chunks, envelopes."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus import Parts
from workers.chunks import CHUNK_MAX, equal, guided
from workers.envelope import Kind, seal, unseal
from workers.tickets import DONE, PLACES, Tickets


def ticket(task: int = 7) -> Tickets:
    tickets = Tickets.create()
    tickets.issue(task)
    return tickets


def test_a_task_that_was_withdrawn_is_not_begun() -> None:
    tickets = ticket()
    assert tickets.withdraw([7]) == [7]
    assert not tickets.begin(7, 1)
    assert not tickets.has_begun(7)


def test_a_task_that_has_begun_is_not_withdrawn() -> None:
    tickets = ticket()
    assert tickets.begin(7, 1)
    assert tickets.withdraw([7]) == []
    assert tickets.begun(7) == 1


def test_who_begins_while_somebody_cancels_waits_for_the_decision() -> None:
    tickets, begun = ticket(), []
    tickets._flags[7] = 1  # asked, and not yet decided
    worker = threading.Thread(target=lambda: begun.append(tickets.begin(7, 1)))
    worker.start()
    worker.join(0.05)
    assert worker.is_alive()
    tickets._flags[7] = 0  # the canceller has seen the beginning
    worker.join(10)
    assert begun == [True]


def test_the_ticket_of_an_earlier_task_in_the_same_place_says_done() -> None:
    tickets = ticket(7)
    tickets.issue(7 + PLACES)
    assert tickets.begun(7) == DONE
    assert tickets.begun(7 + PLACES) == 0


def test_a_second_process_sees_the_same_tickets() -> None:
    tickets = ticket()
    other = Tickets.open(tickets.path)
    other.begin(7, 1)
    other.done(7)
    assert tickets.begun(7) == DONE


@given(st.integers(0, 5000), st.integers(1, 64))
def test_guided_chunks_are_all_items_in_order(count: int, workers: int) -> None:
    chunks = list(guided([(number,) for number in range(count)], workers))
    assert [number for chunk in chunks for (number,) in chunk] == list(range(count))


def test_guided_chunks_grow_and_shrink() -> None:
    sizes = [len(chunk) for chunk in guided([()] * 1_000_000, 2)]
    assert sizes[0] == 1
    assert max(sizes) == CHUNK_MAX
    assert sizes[-2] < CHUNK_MAX / 2


def test_equal_chunks_take_no_more_than_they_need() -> None:
    source = iter([(number,) for number in range(10)])
    assert next(equal(source, 3)) == [(0,), (1,), (2,)]
    assert next(source) == (3,)


@pytest.mark.parametrize("value", [None, "text", {"list": [1, 2.5]}])
def test_an_envelope_holds_what_was_put_in(value: object) -> None:
    opened = unseal(seal(Kind.TASK, 1 << 40, value, b"function"))  # type: ignore[arg-type]
    assert (opened.kind, opened.task, opened.function) == (Kind.TASK, 1 << 40, b"function")
    assert opened.load() == value


def test_an_array_in_an_envelope_is_a_view_of_it() -> None:
    array = np.arange(1000)
    parts = seal(Kind.VALUE, 1, {"array": array})
    assert isinstance(parts, Parts)
    data = memoryview(parts.join())
    found = unseal(data).load()["array"]
    assert (found == array).all()
    assert np.shares_memory(found, np.frombuffer(data, np.uint8))
    assert not found.flags.writeable
    assert unseal(data).copied().load()["array"].flags.writeable
