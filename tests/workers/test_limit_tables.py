"""Limits: the rules, and tables that many processes use while some of them are killed."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any, cast

import pytest

from tests.children import Child, Fork, Report, family
from tests.waiting import eventually, never
from workers.cli.limits import limits_of, rate_of
from workers.errors import LimitError
from workers.gate import Gate, Pass
from workers.limit_file import paths, sweep
from workers.limit_layout import WAYS, Head
from workers.limit_rules import GRACE_NS, LONGEST_NS, ready_ns, taken, turn
from workers.limit_table import LimitTable
from workers.limits import Concurrency, Limit, Rate, hash_of
from workers.owners import Owners
from workers.post import start_ticks

MS = 1_000_000
SECOND = 1_000 * MS


@pytest.fixture
def processes() -> Iterator[Fork]:
    """Forks processes that end with the test; no file of a limit is left after it."""
    assert not paths()
    with family() as fork:
        yield fork
    eventually(lambda: sweep() or not paths(), what="all files of limits are gone")


@contextmanager
def gate(*limits: Limit, name: str = "test") -> Iterator[Gate]:
    """A gate that is closed with the block."""
    opened = Gate(limits, [f"{name}{number}" for number in range(len(limits))])
    try:
        yield opened
    finally:
        opened.close()


def passed(gate: Gate, record: object = None) -> Pass:
    """Asks, and insists on passing."""
    answer = gate.ask(record)
    assert isinstance(answer, Pass), f"sent away for {answer} ms"
    return answer


def itself(record: Any) -> Any:
    """A key: the record."""
    return record


# ---------------------------------------------------------------------------------- rules


def test_a_rate_lets_a_burst_begin_at_once_and_then_one_at_each_interval() -> None:
    tat_ns, now_ns, begun = 0, 1000 * SECOND, []
    while len(begun) < 8:
        if ready_ns(tat_ns, 100 * MS, 3) <= now_ns:
            tat_ns = taken(tat_ns, 100 * MS, now_ns)
            begun.append(now_ns)
        now_ns += 10 * MS
    gaps = [(after - before) // MS for before, after in pairwise(begun)]
    assert gaps == [10, 10, 80, 100, 100, 100, 100]


def test_credit_is_kept_up_to_the_burst_and_no_further() -> None:
    tat_ns, now_ns = 0, 1000 * SECOND
    for _ in range(5):
        assert ready_ns(tat_ns, 100 * MS, 5) <= now_ns
        tat_ns = taken(tat_ns, 100 * MS, now_ns)
    assert ready_ns(tat_ns, 100 * MS, 5) == now_ns + 100 * MS


def test_an_interval_is_rounded_up_so_that_there_is_never_one_too_many() -> None:
    assert Rate(3, per_s=1).interval_ns == 333_333_334
    assert Rate(10, per_s=1).interval_ns == 100 * MS


def test_those_that_wait_come_one_after_the_other_and_the_first_as_soon_as_it_may() -> None:
    now_ns, queue_ns, head_ns = 1000 * SECOND, 0, 0
    ready = now_ns + 30 * MS
    turns = []
    for _ in range(4):
        found = turn(now_ns, ready, 100 * MS, queue_ns, head_ns, 0.5)
        queue_ns, head_ns = found.queue_ns, found.head_ns
        turns.append((found.at_ns - now_ns) // MS)
    assert turns == [30, 130, 230, 330]
    # the head is late by a moment, and another was quicker: it stays the next one
    late_ns = now_ns + 30 * MS + GRACE_NS
    assert turn(late_ns, late_ns + 5 * MS, 100 * MS, queue_ns, head_ns, 0.5).at_ns == (
        late_ns + 5 * MS
    )


def test_nobody_is_sent_away_for_longer_than_the_longest_time() -> None:
    now_ns = 1000 * SECOND
    for chance in (0.0, 0.999):
        found = turn(now_ns, now_ns + 1, SECOND, now_ns + 100 * SECOND, now_ns + 10, chance)
        assert LONGEST_NS // 2 <= found.at_ns - now_ns <= LONGEST_NS
        found = turn(now_ns, now_ns + 3600 * SECOND, 3600 * SECOND, 0, 0, chance)
        assert LONGEST_NS // 2 <= found.at_ns - now_ns <= LONGEST_NS


def test_keys_of_any_kind_are_told_apart() -> None:
    values = [b"1", "1", 1, ("a", 1), ("a", 2), "", b"", 0]
    assert len({hash_of(value) for value in values}) == len(values)
    assert 0 not in {hash_of(value) for value in values}


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Rate(0), "Rate must be a whole number from 1, not 0"),
        (lambda: Rate(1, per_s=0), "per_s must be above 0"),
        (lambda: Rate(1, burst=0), "burst must be a whole number from 1"),
        (lambda: Concurrency(5000), "at most 4096"),
        (lambda: Concurrency(True), "whole number"),
        (lambda: Rate(1, key=cast(Any, "host")), "key must be a function of the record"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(make: Callable[[], Limit], text: str) -> None:
    with pytest.raises(LimitError, match=text):
        make()


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("10/s", Rate(10)),
        ("90/m", Rate(90, per_s=60)),
        ("5/0.5s", Rate(5, per_s=0.5)),
        ("1/2h", Rate(1, per_s=7200)),
    ],
)
def test_a_rate_on_the_command_line(text: str, rate: Rate) -> None:
    assert rate_of(text) == rate
    assert limits_of(text, 4, 2) == [replace(rate, burst=4), Concurrency(2)]
    assert limits_of(None, 1, None) == []


@pytest.mark.parametrize("text", ["10", "10/", "/s", "10/x", "ten/s", "10/.s", "0/s"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(LimitError):
        rate_of(text)


# ---------------------------------------------------------------------------------- tables


def test_a_key_has_a_limit_of_its_own_and_none_means_no_limit(processes: Fork) -> None:
    with gate(Concurrency(1, key=itself)) as one:
        first = passed(one, "a")
        assert not isinstance(one.ask("a"), Pass)
        passed(one, "b")
        for _ in range(3):
            passed(one, None)
        first.give_back()
        passed(one, "a")


def test_a_limit_that_refuses_leaves_the_others_as_they_were(processes: Fork) -> None:
    with gate(Concurrency(5), Rate(1, per_s=60, burst=2)) as both:
        permits = both._tables[0]
        for _ in range(2):
            passed(both)
        for _ in range(10):
            assert not isinstance(both.ask(None), Pass)
        assert sum(map(bool, permits._pids.tolist())) == 2  # type: ignore[attr-defined]


def test_what_was_not_begun_with_costs_nothing(processes: Fork) -> None:
    with gate(Rate(1, per_s=60)) as slow:
        for _ in range(5):
            passed(slow).undo()
        passed(slow)
        assert not isinstance(slow.ask(None), Pass)


def test_credit_is_not_given_back_once_somebody_else_has_begun(processes: Fork) -> None:
    with gate(Rate(1, per_s=60, burst=2)) as slow:
        first = passed(slow)
        passed(slow)
        first.undo()
        assert not isinstance(slow.ask(None), Pass)


def test_idle_keys_make_room_for_others_and_busy_ones_never(processes: Fork) -> None:
    with gate(Rate(1000, key=itself)) as rate:
        table = rate._tables[0]
        keys = _of_one_set(table, WAYS + 1)
        for key in keys[:WAYS]:
            assert table.entry(key, 0) is not None
            at = table.entry(key, 0)
            assert at is not None
            table.take(at, key, 10 * SECOND)
        assert table.entry(keys[WAYS], 10 * SECOND) is None, "all are busy for a millisecond"
        assert table.entry(keys[WAYS], 11 * SECOND) is not None


def _of_one_set(table: LimitTable, count: int) -> list[int]:
    return [1 + number * table._sets for number in range(count)]


def test_records_of_too_many_keys_wait_and_are_not_let_through(
    processes: Fork, caplog: pytest.LogCaptureFixture
) -> None:
    with gate(Rate(1, per_s=3600, key=itself)) as rate:
        table = rate._tables[0]
        for key in _of_one_set(table, WAYS):
            at = table.entry(key, 0)
            assert at is not None
            table.take(at, key, time.monotonic_ns())
        [same] = [n for n in range(100_000) if hash_of(n) % table._sets == 1][:1]
        assert rate.ask(same) == 1000.0
    assert "too many keys are busy at once" in caplog.text


def test_a_permit_of_a_dead_process_is_free_and_one_of_a_stopped_process_is_not(
    processes: Fork,
) -> None:
    def hold(report: Report) -> None:
        with gate(Concurrency(1)) as mine:
            passed(mine)
            report("held")
            signal.pause()

    with gate(Concurrency(1)) as mine:
        holder = processes(hold)
        holder.next()
        os.kill(holder.pid, signal.SIGSTOP)
        # several times longer than between two looks for the dead
        never(lambda: isinstance(mine.ask(None), Pass), 0.05, "a permit of the living is free")
        os.kill(holder.pid, signal.SIGKILL)  # and nobody reaps it yet: it is a zombie
        eventually(lambda: isinstance(mine.ask(None), Pass), 10.0, "the permit is free")
        assert not isinstance(mine.ask(None), Pass)


def test_a_process_with_the_same_pid_is_not_taken_for_the_owner() -> None:
    owners, pid = Owners(), os.getpid()
    ticks = start_ticks(pid)
    assert ticks is not None
    assert not owners.is_dead(pid, ticks)
    assert owners.is_dead(pid, ticks + 1)
    owners.close()


def test_who_was_stopped_with_the_lock_holds_up_nobody(processes: Fork) -> None:
    def stop(report: Report) -> None:
        with gate(Rate(1000, burst=1000)) as mine:
            assert mine._tables[0].lock()
            report("locked")
            signal.pause()

    with gate(Rate(1000, burst=1000)) as mine:
        holder = processes(stop)
        holder.next()
        since_s = time.monotonic()
        assert mine.ask(None) == 20.0
        assert time.monotonic() - since_s < 5.0
        os.kill(holder.pid, signal.SIGKILL)
        eventually(lambda: isinstance(mine.ask(None), Pass), 10.0, "the lock is free")


def test_a_limit_lives_as_long_as_anybody_uses_it_and_no_longer(processes: Fork) -> None:
    with gate(Rate(1, per_s=60), name="same") as one:
        passed(one)
        with gate(Rate(1, per_s=60), name="same") as other:
            assert not isinstance(other.ask(None), Pass)
        assert len(paths()) == 1
        assert not isinstance(one.ask(None), Pass)
    assert not paths()


def test_after_a_kill_of_all_the_next_one_goes_on_with_what_was_used(processes: Fork) -> None:
    def use(report: Report) -> None:
        mine = Gate([Rate(1, per_s=60)], ["left"])
        passed(mine)
        report("used")
        signal.pause()

    user = processes(use)
    user.next()
    os.kill(user.pid, signal.SIGKILL)
    user.wait()
    assert len(paths()) == 1
    mine = Gate([Rate(1, per_s=60)], ["left"])
    assert not isinstance(mine.ask(None), Pass)
    mine.close()


def test_a_name_that_is_in_use_with_other_numbers_is_refused(processes: Fork) -> None:
    with gate(Rate(1), name="same"):
        with pytest.raises(LimitError, match="others use a limit of the name 'same0' with other"):
            Gate([Rate(2)], ["same0"])
        with pytest.raises(LimitError, match="with other numbers"):
            Gate([Concurrency(1)], ["same0"])
    with gate(Rate(2), name="same") as mine:
        passed(mine)


def test_a_forked_child_leaves_the_limit_to_its_parent(processes: Fork) -> None:
    def linger(report: Report) -> None:
        report("here")
        signal.pause()

    with gate(Rate(1), name="forked"):
        processes(linger).next()
    assert not paths(), "the child must not keep the file"


def test_many_processes_never_exceed_a_limit_while_some_are_killed(processes: Fork) -> None:
    """The oracle: what each was given, by its own word, and when the test killed it."""
    count, interval_ns, burst, most = 2000, 500_000, 7, 3
    limits = (Concurrency(most), Rate(count, burst=burst))

    def work(report: Report) -> None:
        with gate(*limits) as mine:
            while True:
                answer = mine.ask(None)
                if not isinstance(answer, Pass):
                    time.sleep(min(answer, 2.0) / 1000)
                    continue
                begin_ns = time.monotonic_ns()
                granted_ns = answer.parts[0][1].since_ns
                time.sleep(0.0005)
                report([granted_ns, begin_ns, time.monotonic_ns()])
                answer.give_back()

    spans: list[list[int]] = []
    with gate(*limits):
        team: list[Child] = [processes(work) for _ in range(6)]
        for _ in range(8):
            for one in team:
                one.next()
            victim = team.pop(0)
            os.kill(victim.pid, signal.SIGKILL)
            spans += victim.rest()
            victim.wait()
            team.append(processes(work))
        for one in team:
            os.kill(one.pid, signal.SIGKILL)
            spans += one.rest()
    assert len(spans) > 200
    _never_more_at_once(spans, most)
    granted = sorted(span[0] for span in spans)
    for width in range(1, len(granted)):
        for first in range(0, len(granted) - width, max(1, width // 4)):
            length_ns = granted[first + width] - granted[first]
            assert width + 1 <= burst + length_ns / interval_ns + 1e-6


def _never_more_at_once(spans: list[list[int]], most: int) -> None:
    steps = sorted([(begin, 1) for _, begin, _ in spans] + [(end, -1) for _, _, end in spans])
    running = 0
    for _, step in steps:
        running += step
        assert running <= most


def test_the_oracle_sees_one_too_many() -> None:
    with pytest.raises(AssertionError):
        _never_more_at_once([[0, 0, 10], [0, 5, 15], [0, 9, 20]], 2)


def test_a_header_says_what_the_limit_is(processes: Fork) -> None:
    with gate(Rate(10, per_s=2, burst=3)) as mine:
        words = mine._tables[0]._words
        assert words[Head.COUNT] == 10
        assert words[Head.INTERVAL_NS] == 200 * MS
        assert words[Head.BURST] == 3
