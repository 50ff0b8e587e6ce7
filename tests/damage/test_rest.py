"""A file of a bus at rest is damaged, cut, lost or exchanged: told, mended or missed aloud.

BUS_DAMAGE_TRIALS: faults tried for each way in which the bus came to rest (`tox -e damage` tries
all). BUS_FAULT_SEED: which ones.
"""

import os
import shutil
from collections.abc import Callable

import pytest

from tests.damage.rest_bus import BIG, KILLED, REBOOTED, STOPPED, RestingBus
from tests.damage.rest_faults import Fault, sampled
from tests.damage.rest_trial import Outcome, run

TRIALS = int(os.environ.get("BUS_DAMAGE_TRIALS") or 3)
EVERY = "BUS_DAMAGE_TRIALS" in os.environ


def assert_nothing_is_lost_in_silence(outcome: Outcome) -> None:
    assert not outcome.wrong, f"{outcome.fault}: {outcome.wrong}; check found {outcome.found}"


@pytest.mark.timeout(3000 if EVERY else 120)
def test_no_damage_at_rest_is_silent_or_loses_what_its_copy_has(
    resting: Callable[[str], RestingBus],
) -> None:
    for bus, fault in sampled(resting, at_most=TRIALS, everywhere=EVERY):
        assert_nothing_is_lost_in_silence(run(bus, fault, repair=False))


#: What once did harm without a word.
DANGERS = [
    # ids began at 1 again: a new topic got the files of another one
    (STOPPED, "delete", ("next_id", "next_id.copy")),
    # all segments were files of another bus
    (STOPPED, "delete", ("bus.json", "bus.json.copy")),
    # the topic was gone, and its records with it
    (KILLED, "delete", ("topics/t/topic.json", "topics/t/topic.json.copy")),
    # the log began at offset 0 again, over the records that it had
    (STOPPED, "delete", ("topics/t/0/state.json", "topics/t/0/state.json.copy")),
    # the hot log was thrown away, with records that had been acknowledged
    (KILLED, "zero", ("topics/t/1/state.json", "topics/t/1/state.json.copy")),
    # serials of hot files came again
    (KILLED, "delete", ("epoch", "epoch.copy")),
    # the newest file of a partition, after a kill: nothing said that there had been one
    (REBOOTED, "delete", ("topics/t/1/00000000000000000000.log",)),
    (REBOOTED, "delete", ("topics/t/0/00000000000000000050.log",)),
    # the oldest one: the log began behind its records, as if retention had deleted them
    (STOPPED, "delete", ("topics/t/0/00000000000000000000.log",)),
    # hot segments without their control page were swept away, with records that nobody else had
    (KILLED, "delete", ("hot:2-1.ctl",)),
    # the group began anew
    (STOPPED, "zero", ("groups/g.offsets",)),
    (KILLED, "truncate", ("groups/g.offsets", "groups/g.offsets.copy")),
    (STOPPED, "delete", ("groups/g.offsets",)),
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("how", "deed", "files"), DANGERS)
def test_what_once_was_lost_without_a_word(
    resting: Callable[[str], RestingBus], how: str, deed: str, files: tuple[str, ...]
) -> None:
    outcome = run(resting(how), Fault(how, deed, files, 100), repair=False)
    assert_nothing_is_lost_in_silence(outcome)
    assert outcome.incidents or not outcome.is_whole or files[0].startswith("hot:")


class Copied(Fault):
    """The first file in the place of the second one."""

    def inflict(self, bus: RestingBus) -> None:
        shutil.copyfile(bus.file(self.files[0]), bus.file(self.files[1]))


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("source", "target"), [(25, 0), (50, 0), (0, 25), (50, 25)])
def test_a_segment_in_the_place_of_another_one_costs_the_records_of_that_one_alone(
    resting: Callable[[str], RestingBus], source: int, target: int
) -> None:
    """A reader at offset 0 once took the 0 of a file without a seal for its end, for ever."""
    files = tuple(f"topics/t/0/{base:020d}.log" for base in (source, target))
    outcome = run(resting(STOPPED), Copied(STOPPED, "copy", files, 0), repair=False)
    assert_nothing_is_lost_in_silence(outcome)
    assert outcome.gaps == [(BIG, target, target + 25)]


@pytest.mark.timeout(60)
def test_a_hot_log_is_found_although_nothing_says_where_it_is(
    resting: Callable[[str], RestingBus],
) -> None:
    """The records that only RAM has are read as well; of the bus itself nothing is damaged."""
    files = ("runtime.json", "runtime.json.copy")
    outcome = run(resting(KILLED), Fault(KILLED, "delete", files, 0), repair=False)
    assert_nothing_is_lost_in_silence(outcome)
    assert outcome.is_whole


@pytest.mark.timeout(120)
@pytest.mark.parametrize("repair", [False, True], ids=["as it is", "repaired"])
@pytest.mark.parametrize(
    "deed", ["put a directory in the place of", "put a symbolic link in the place of"]
)
def test_what_stands_in_the_place_of_the_clock_file_is_found_and_moved_away(
    resting: Callable[[str], RestingBus], deed: str, repair: bool
) -> None:
    outcome = run(resting(STOPPED), Fault(STOPPED, deed, ("clock.json",), 0), repair=repair)
    assert_nothing_is_lost_in_silence(outcome)
    assert outcome.found
    assert not (repair and outcome.refused)
