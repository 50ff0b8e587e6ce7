"""A replica copies what verifies, publishes what is synced, and says so when it cannot."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus.durable import DATA_START, list_segments, open_dir, read_header, segment_name
from bus.mirror import Mirror
from bus.replica import Follower, FollowerFailedError
from tests.broker.hotlog import HotLog, drain

EIO = OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.fixture
def hot(tmp_path: Path) -> Iterator[HotLog]:
    with HotLog(tmp_path) as hot:
        yield hot


@pytest.fixture
def follower(hot: HotLog) -> Iterator[Follower]:
    follower = hot.follower()
    follower.resume()
    yield follower
    follower.close()


def test_records_become_durable_and_then_visible_as_durable(
    hot: HotLog, follower: Follower
) -> None:
    hot.append(b"a", b"b", b"c")
    assert hot.log.high_watermark == 0
    drain(follower)
    assert hot.log.high_watermark == 3
    assert hot.durable_ends() == {0: (3, False)}


def test_an_idle_partition_has_no_durable_file(hot: HotLog, follower: Follower) -> None:
    drain(follower)
    assert hot.durable_ends() == {}


def test_the_durable_file_has_the_bytes_of_the_hot_one(hot: HotLog, follower: Follower) -> None:
    hot.append(b"a" * 100, b"b" * 5000)
    drain(follower)
    durable = hot.durable.joinpath(segment_name(0)).read_bytes()
    assert durable[DATA_START:] == hot.segment_file(1).read_bytes()[DATA_START:]
    hot.roll()
    drain(follower)
    assert hot.durable.joinpath(segment_name(0)).read_bytes() == hot.segment_file(1).read_bytes()


def test_nothing_is_published_before_the_sync_returns(
    hot: HotLog, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    real = os.fdatasync

    def watched(fd: int) -> None:
        seen.append(hot.log.high_watermark)
        real(fd)
        seen.append(hot.log.high_watermark)

    monkeypatch.setattr(os, "fdatasync", watched)
    hot.append(b"a", b"b")
    drain(follower)
    assert seen == [0, 0]
    assert hot.log.high_watermark == 2


def test_each_segment_gets_its_file_and_is_sealed(hot: HotLog, follower: Follower) -> None:
    for _ in range(3):
        hot.append(b"x" * 1000, b"y")
        hot.roll()
    hot.append(b"z")
    drain(follower)
    assert hot.durable_ends() == {0: (2, True), 2: (4, True), 4: (6, True), 6: (7, False)}
    assert hot.log.high_watermark == 7


def test_a_segment_sealed_without_a_record_gets_no_file(hot: HotLog, follower: Follower) -> None:
    hot.rings.feed(hot.log, need=3 << 20)
    hot.append(b"x" * (1 << 20))
    drain(follower)
    assert hot.log.tail[0] == 2
    assert hot.durable_ends() == {0: (1, False)}


def test_a_record_larger_than_the_buffer_is_copied(hot: HotLog) -> None:
    hot.rings.feed(hot.log, need=3 << 20)
    hot.log.set_settings(max_message_bytes=2 << 20)
    hot.append(b"x" * (2 << 20), b"after")
    follower = hot.follower()
    follower.resume()
    drain(follower)
    assert hot.log.high_watermark == 2
    follower.close()


# ------------------------------------------------------------------------------------ restarts


def test_a_new_replica_goes_on_where_the_old_one_was(hot: HotLog, follower: Follower) -> None:
    hot.append(b"a", b"b")
    drain(follower)
    hot.append(b"c")
    second = hot.follower()
    second.resume()
    assert hot.log.high_watermark == 2
    drain(second)
    assert hot.durable_ends() == {0: (3, False)}
    assert hot.log.high_watermark == 3
    second.close()


@pytest.mark.parametrize("sealed_files", [1, 2])
def test_a_new_replica_goes_on_after_a_sealed_file(hot: HotLog, sealed_files: int) -> None:
    for _ in range(sealed_files):
        hot.append(b"a")
        hot.roll()
    first = hot.follower()
    first.resume()
    drain(first)
    first.close()
    hot.append(b"b")
    second = hot.follower()
    second.resume()
    drain(second)
    assert hot.log.high_watermark == sealed_files + 1
    second.close()


def test_frames_that_a_dead_replica_left_torn_are_written_again(
    hot: HotLog, follower: Follower
) -> None:
    hot.append(b"a" * 100)
    drain(follower)
    hot.append(b"b" * 100, b"c" * 100)
    path = hot.durable / segment_name(0)
    with path.open("r+b") as file:  # what a power loss may leave of an unsynced write
        file.seek(DATA_START + 300)
        file.write(b"\xff" * 64)
    second = hot.follower()
    second.resume()
    drain(second)
    assert hot.durable_ends() == {0: (3, False)}
    second.close()


def inode(hot: HotLog, base: int = 0) -> int:
    return (hot.durable / segment_name(base)).stat().st_ino


def die_after_a_failed_sync(hot: HotLog, monkeypatch: pytest.MonkeyPatch, good: int = 0) -> None:
    """A replica whose fdatasync fails, and that is killed before it can put it right."""
    replica = hot.follower()
    replica.resume()
    answers = [os.fdatasync] * good
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "fdatasync", lambda fd: (answers.pop() if answers else failing)(fd))
        patch.setattr(Follower, "_copy_anew", dying)
        drain(replica)


def failing(_fd: int) -> None:
    raise EIO


def test_what_a_dead_replica_could_not_sync_is_not_believed_but_copied_anew(
    hot: HotLog, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    hot.append(b"a")
    drain(follower)
    first = inode(hot)
    hot.append(b"b")
    die_after_a_failed_sync(hot, monkeypatch)
    assert hot.durable_ends() == {0: (2, False)}  # the pages look well
    assert hot.log.high_watermark == 1
    second = hot.follower()
    second.resume()
    assert hot.log.high_watermark == 2
    assert inode(hot) != first
    second.close()


def test_a_seal_that_a_dead_replica_could_not_sync_is_not_believed_but_copied_anew(
    hot: HotLog, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    hot.append(b"a")
    drain(follower)
    first = inode(hot)
    hot.roll()
    hot.append(b"b")
    die_after_a_failed_sync(hot, monkeypatch, good=1)  # the frames come before their seal
    assert seals(hot) == [1]
    second = hot.follower()
    second.resume()
    drain(second)
    assert inode(hot) != first
    assert hot.durable_ends() == {0: (1, True), 1: (2, False)}
    assert hot.log.high_watermark == 2
    second.close()


def test_a_file_that_ends_where_the_watermark_stands_is_kept(
    hot: HotLog, follower: Follower
) -> None:
    hot.append(b"a", b"b")
    drain(follower)
    first = inode(hot)
    second = hot.follower()
    second.resume()
    hot.append(b"c")
    drain(second)
    assert inode(hot) == first
    assert hot.log.high_watermark == 3
    second.close()


def test_a_copy_that_fails_once_is_made_once_more(
    hot: HotLog, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    hot.append(b"a")
    drain(follower)
    real, failures = os.fdatasync, [EIO, EIO]

    def failing_twice(fd: int) -> None:
        if failures:
            raise failures.pop()
        real(fd)

    monkeypatch.setattr(os, "fdatasync", failing_twice)
    hot.append(b"b")
    drain(follower)
    assert hot.log.high_watermark == 2
    assert hot.durable_ends() == {0: (2, False)}


def test_a_durable_file_that_lost_what_was_published_is_copied_anew(
    hot: HotLog, follower: Follower
) -> None:
    hot.append(b"a" * 100, b"b" * 100)
    drain(follower)
    with (hot.durable / segment_name(0)).open("r+b") as file:
        file.seek(DATA_START + 60)
        file.write(b"\xff")
    second = hot.follower()
    second.resume()
    assert hot.log.high_watermark == 2
    assert hot.durable_ends() == {0: (2, False)}
    hot.append(b"c")
    drain(second)
    assert hot.durable_ends() == {0: (3, False)}
    second.close()


def test_a_replica_that_died_before_the_seal_seals_when_it_comes_back(
    hot: HotLog, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    hot.append(b"a")
    drain(follower)
    hot.roll()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Mirror, "seal", dying)
        drain(follower)
    hot.append(b"b")
    assert seals(hot) == [0]
    second = hot.follower()
    second.resume()
    drain(second)
    assert seals(hot)[0] == 1
    assert hot.log.high_watermark == 2
    second.close()


def dying(*_: object) -> None:
    """Stands for a kill at this point."""
    raise KeyboardInterrupt


def seals(hot: HotLog) -> list[int]:
    """What the headers of the durable files say of their ends; 0: not sealed."""
    with open_dir(hot.durable) as fd:
        return [read_header(fd, base).end_offset for base in list_segments(fd)]


def test_a_known_gap_before_the_first_segment_is_followed(tmp_path: Path) -> None:
    with HotLog(tmp_path) as before:
        before.append(b"a", b"b")
        before.roll()
        follower = before.follower()
        follower.resume()
        drain(follower)
        follower.close()
    with HotLog(tmp_path, number=2, base_offset=100, gap=98) as after:
        after.append(b"c")
        follower = after.follower()
        follower.resume()
        drain(follower)
        assert after.durable_ends() == {0: (2, True), 100: (101, False)}
        assert after.log.high_watermark == 101
        follower.close()


def test_an_unknown_gap_ends_the_replica(tmp_path: Path) -> None:
    with HotLog(tmp_path) as before:
        before.append(b"a", b"b")
        before.roll()
        follower = before.follower()
        follower.resume()
        drain(follower)
        follower.close()
    with HotLog(tmp_path, number=2, base_offset=100, gap=50) as after:
        follower = after.follower()
        with pytest.raises(FollowerFailedError, match="records 2 to 100 left the hot log"):
            follower.resume()
        follower.close()


# ------------------------------------------------------------------------------------- damage


def test_a_failed_sync_is_final_for_the_file_and_the_segment_is_copied_anew(
    hot: HotLog, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    hot.append(b"a")
    drain(follower)
    old_inode = (hot.durable / segment_name(0)).stat().st_ino
    real, failures = os.fdatasync, [EIO]
    marks = []

    def failing_once(fd: int) -> None:
        marks.append(hot.log.high_watermark)
        if failures:
            raise failures.pop()
        real(fd)

    monkeypatch.setattr(os, "fdatasync", failing_once)
    hot.append(b"b")
    drain(follower)
    assert marks == [1, 1]
    assert hot.log.high_watermark == 2
    assert (hot.durable / segment_name(0)).stat().st_ino != old_inode
    assert hot.durable_ends() == {0: (2, False)}


def test_a_failed_sync_at_the_seal_is_repaired_too(
    hot: HotLog, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    hot.append(b"a")
    hot.roll()
    hot.append(b"b")
    real, failures = os.fdatasync, [EIO]

    def failing_once(fd: int) -> None:
        if failures:
            raise failures.pop()
        real(fd)

    monkeypatch.setattr(os, "fdatasync", failing_once)
    drain(follower)
    assert hot.durable_ends() == {0: (1, True), 1: (2, False)}
    assert hot.durable.joinpath(segment_name(0)).read_bytes() == hot.segment_file(1).read_bytes()


def test_when_the_copy_fails_too_the_replica_ends_and_the_watermark_stays(
    hot: HotLog, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    hot.append(b"a")
    drain(follower)
    monkeypatch.setattr(os, "fdatasync", failing)
    hot.append(b"b")
    with pytest.raises(FollowerFailedError, match=r"could not be copied.*Input/output error"):
        drain(follower)
    assert hot.log.high_watermark == 1
