"""Members and brokers are killed often: no record is lost, and none that is done comes again."""

import os
import random
from pathlib import Path

import pytest

from bus import Broker
from tests.children import Fork
from tests.share.storm import Journal, Storm, blow, judge

#: How long it blows, in seconds; BUS_STORM_S for more.
SECONDS = float(os.environ.get("BUS_STORM_S", "5"))


@pytest.mark.timeout(SECONDS + 120)
def test_a_storm_of_kills_loses_nothing_and_repeats_nothing_that_is_done(
    broker: Broker, bus_dir: Path, fork: Fork
) -> None:
    seed = int(os.environ.get("BUS_STORM_SEED") or random.SystemRandom().randrange(1 << 24))
    print(f"BUS_STORM_SEED={seed}")
    storm = blow(bus_dir, broker, fork, members=4, seconds=SECONDS, seed=seed)
    assert not storm.wrong, storm.wrong[:5]
    assert storm.kills > 3 and storm.sent > 50
    assert storm.latencies_ms, "nobody was killed in the middle of its work"
    print(
        f"{storm.sent} records, {storm.kills} members and {storm.broker_kills} brokers killed,"
        f" {storm.again} came again; of {len(storm.latencies_ms)} after a kill, half within"
        f" {storm.percentile(0.5):.1f} ms, 99 % within {storm.percentile(0.99):.1f} ms"
    )


@pytest.mark.timeout(SECONDS + 120)
def test_in_a_storm_no_record_of_a_key_is_begun_before_the_ones_before_it_are_done(
    broker: Broker, bus_dir: Path, fork: Fork
) -> None:
    seed = int(os.environ.get("BUS_STORM_SEED") or random.SystemRandom().randrange(1 << 24))
    print(f"BUS_STORM_SEED={seed}")
    storm = blow(bus_dir, broker, fork, members=4, seconds=SECONDS, seed=seed, mode="keyed")
    assert not storm.wrong, storm.wrong[:5]
    assert storm.kills > 3 and storm.sent > 50 and storm.again > 0
    print(
        f"{storm.sent} records, {storm.kills} members and {storm.broker_kills} brokers killed,"
        f" {storm.again} came again"
    )


def test_the_judge_of_a_storm_sees_a_record_that_passed_another(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    for word, offset in (
        ("begin", 0),
        ("acking", 0),
        ("begin", 5),  # in turn
        ("begin", 0),  # again, its worker has died
        ("kill", -1),
        ("begin", 5),  # out of turn
        ("begin", 1),
        ("acking", 1),
    ):
        journal.write(word, 1, offset)
    storm = Storm(mode="keyed", sent=2)
    judge(storm, journal)
    journal.close()
    assert [one for one in storm.wrong if "before [0]" in one], storm.wrong


def test_the_judge_of_a_storm_sees_what_must_not_be(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    for word, pid, offset in (
        ("begin", 1, 0),
        ("done", 1, 0),
        ("begin", 2, 0),  # acknowledged before
        ("begin", 1, 1),
        ("begin", 2, 1),  # at a time
        ("kill", 1, -1),
        ("begin", 2, 2),
    ):
        journal.write(word, pid, offset)
    storm = Storm(sent=4)
    judge(storm, journal)
    journal.close()
    assert len(storm.wrong) == 3, storm.wrong
