"""A replica that dies between any two lines claims nothing it has not got, and can be followed.

Every death is tried that the stride hits: the first line is chosen at random, so that in time all
of them are. BUS_FAULT_STRIDE=1 tries them all.
"""

import os
import random
import sys
from pathlib import Path

import pytest

from bus.durable import list_segments, open_dir, read_header
from tests.broker.hotlog import HotLog, drain
from tests.faults.stepped import Steps

STRIDE = int(os.environ.get("BUS_FAULT_STRIDE", "23"))
VALUE = b"v" * 3000
END = 9


def fill(hot: HotLog) -> None:
    """Three segments: two that are sealed, one that goes on."""
    for _ in range(2):
        hot.append(VALUE, VALUE, VALUE)
        hot.roll()
    assert hot.append(VALUE, VALUE, VALUE) == END - 1


def follow(hot: HotLog) -> None:
    follower = hot.follower()
    follower.resume()
    drain(follower)
    follower.close()


def die_following(hot: HotLog, line: int) -> bool:
    """A replica process that is gone before that line; False if it got through."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            sys.settrace(Steps(line))
            follow(hot)
            sys.settrace(None)
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, -9), f"line {line}: the replica failed"
    return code != 0


def durable_end(hot: HotLog) -> int:
    """The offset after the last record that verifies on disk."""
    return max((end for end, _ in hot.durable_ends().values()), default=0)


def assert_everything_is_durable_and_sealed(hot: HotLog) -> None:
    assert hot.log.high_watermark == END
    assert hot.durable_ends() == {0: (3, True), 3: (6, True), 6: (END, False)}
    with open_dir(hot.durable) as fd:
        # a reader takes a file without its seal for one that is not complete yet
        assert [read_header(fd, base).end_offset for base in list_segments(fd)] == [3, 6, 0]


@pytest.mark.timeout(240)
def test_a_replica_may_die_between_any_two_lines(tmp_path: Path) -> None:
    line = random.randrange(1, STRIDE + 1)
    print(f"from line {line}, every {STRIDE}")
    died, deaths = True, 0
    while died:
        with HotLog(tmp_path / str(line)) as hot:
            fill(hot)
            died = die_following(hot, line)
            assert hot.log.high_watermark <= durable_end(hot), f"line {line}"
            for again in range(line % STRIDE + 1, 10 * STRIDE, 4 * STRIDE):
                die_following(hot, again)  # the next ones die while they resume
                assert hot.log.high_watermark <= durable_end(hot), f"line {line}, then {again}"
            follow(hot)
            assert_everything_is_durable_and_sealed(hot)
        deaths += died
        line += STRIDE
    assert deaths > 200 / STRIDE
