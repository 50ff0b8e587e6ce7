"""What can be a handler, what it is called, and how many records it gets at once."""

import functools
import itertools
import random
from typing import Any

import pytest

from tests.workers import handlers
from workers.errors import HandlerError, TaskTimeout
from workers.handler import Handler, find, is_async, name_of
from workers.prefetch import CLAIM_MAX, TARGET_NS, Prefetch
from workers.retry import Again, Counts, GiveUp, Retry, Trouble, trouble_of


class Calls:
    """An object that is a handler."""

    def __call__(self, record: Any) -> None:
        """Does nothing."""


class CallsAsync:
    """An object that is an async handler."""

    async def __call__(self, record: Any) -> None:
        """Does nothing."""


def test_an_async_handler_is_told_from_a_function() -> None:
    assert is_async(handlers.sleeps)
    assert is_async(functools.partial(functools.partial(handlers.sleeps), file=None))
    assert is_async(CallsAsync())
    assert not is_async(handlers.notes)
    assert not is_async(Calls())


def test_a_handler_has_a_name_that_finds_it() -> None:
    assert name_of(functools.partial(handlers.notes)) == "tests.workers.handlers:notes"
    assert name_of(Calls()) == "tests.workers.test_handlers:Calls"
    assert find("tests.workers.handlers:notes") is handlers.notes
    with pytest.raises(HandlerError, match="has no function 'nothing'"):
        find("tests.workers.handlers:nothing")


def test_a_handler_with_state_takes_two_arguments() -> None:
    bound = Handler(lambda record, state: (record, state), init=dict).bound({"n": 1})
    assert bound("r") == ("r", {"n": 1})
    left: list[Any] = []
    Handler(print, exit=lambda: left.append("without")).leave(None)
    Handler(lambda record, state: None, init=dict, exit=left.append).leave("state")
    assert left == ["without", "state"]


def test_short_tasks_are_claimed_by_the_millisecond_and_long_ones_one_by_one() -> None:
    prefetch = Prefetch()
    assert prefetch.count() == 1
    counts = []
    for _ in range(60):
        prefetch.took(TARGET_NS / 50)
        counts.append(prefetch.count())
    assert counts[-1] >= 45
    assert all(after <= 2 * before for before, after in itertools.pairwise(counts))
    prefetch.took(3 * TARGET_NS)
    assert prefetch.count() == 1, "one slow task is enough"
    for _ in range(200):
        prefetch.took(100.0)
    assert [prefetch.count() for _ in range(10)][-1] == CLAIM_MAX


def test_pauses_double_up_to_the_longest_and_are_spread() -> None:
    retry = Retry(failure=255, first_delay_s=1.0, longest_delay_s=8.0, jitter=0.5)
    draw, error = random.Random(3), ValueError()
    pauses = []
    for count in (1, 2, 3, 4, 5, 250):
        decision = retry.after(Trouble.FAILURE, Counts(failure=count), error, draw)
        assert isinstance(decision, Again)
        pauses.append(decision.delay_s)
    bases = [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    assert all(base <= pause <= 1.5 * base for base, pause in zip(bases, pauses, strict=True))
    assert len(set(pauses[3:])) == 3


@pytest.mark.parametrize("trouble", list(Trouble))
def test_each_kind_of_trouble_has_a_limit_of_its_own(trouble: Trouble) -> None:
    retry = Retry(**{trouble.value: 3})
    others = {kind.value: 0 for kind in Trouble}
    for count, given_up in ((1, False), (2, False), (3, True)):
        counts = Counts(**{**others, trouble.value: count})
        found = retry.after(trouble, counts, None, random.Random())
        assert isinstance(found, GiveUp) == given_up
        assert (retry.spent(counts) is not None) == given_up


def test_a_pause_may_be_the_caller_s() -> None:
    retry = Retry(delay=lambda count, error: count * 10.0)
    found = retry.after(Trouble.FAILURE, Counts(failure=2), ValueError(), random.Random())
    assert found == Again(20.0)


def test_an_exception_is_a_kind_of_trouble() -> None:
    kinds = [trouble_of(error) for error in (TaskTimeout(), MemoryError(), TimeoutError())]
    assert kinds == [Trouble.TIMEOUT, Trouble.OOM, Trouble.FAILURE]
