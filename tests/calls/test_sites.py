"""The number of a stack of Python lines: the same in a loop, another one from elsewhere."""

import json
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from tests.calls import sites
from tests.children import Fork, Report


def number() -> int:
    """What the tracer would read if this thread made a system call on this line."""
    at = 2 * (threading.get_native_id() % sites.THREADS)
    return int(sites._words[at])


def watched(fork: Fork, body: Callable[[], Any]) -> Any:
    """What `body` returns, in a process of its own."""

    def live(report: Report) -> None:
        sites.watch()
        found = body()
        sys.settrace(None)
        report(found)

    child = fork(live)
    found = child.next()
    assert child.wait() == 0
    return found


def looped() -> list[int]:
    return [number() for _ in range(3)]


def test_a_loop_is_one_site_and_each_way_to_it_another_one(fork: Fork) -> None:
    def ways() -> list[list[int]]:
        first = looped()
        second = looped()
        return [first, second, looped()]

    found = watched(fork, ways)
    assert [len(set(one)) for one in found] == [1, 1, 1]
    assert len({one[0] for one in found}) == 3


def test_an_error_leaves_the_stack_where_it_is_caught(fork: Fork) -> None:
    def fail() -> None:
        raise KeyError

    def caught() -> list[int]:
        found = []
        for inside in (False, True, False):
            try:
                if inside:
                    fail()
            except KeyError:
                continue
            found.append(number())
        return found

    before, after = watched(fork, caught)
    assert before == after


def test_a_thread_has_a_stack_of_its_own(fork: Fork) -> None:
    def beside() -> list[int]:
        seen: list[int] = []
        thread = threading.Thread(target=lambda: seen.extend(looped()))
        for _ in range(2):
            seen.append(number())
            if thread.ident is None:
                thread.start()
                thread.join()
        return seen

    mine, *its, again = watched(fork, beside)
    assert mine == again
    assert len(set(its)) == 1
    assert its[0] != mine


def test_a_forked_process_goes_on_where_its_parent_was(fork: Fork) -> None:
    def forked() -> list[int]:
        reader, writer = os.pipe()
        seen, pid = [], -1
        for _ in range(2):
            seen.append(number())
            if pid < 0:
                pid = os.fork()
        if pid == 0:
            os.write(writer, json.dumps(seen).encode())
            os._exit(0)
        os.waitpid(pid, 0)
        return [*seen, *json.loads(os.read(reader, 1000))]

    assert len(set(watched(fork, forked))) == 1


def test_the_numbers_are_the_same_in_the_next_process(fork: Fork) -> None:
    assert watched(fork, number) == watched(fork, number)
