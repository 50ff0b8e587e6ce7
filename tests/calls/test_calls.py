"""A system call of the broker or a replica fails, or is the last: a sample, and known dangers.

`tox -e calls` tries all of them. BUS_FAULT_SEED chooses the sample again.
"""

import errno
import os
import random

import pytest

from bus.errors import BusError
from bus.mirror import Mirror
from tests.calls.injector import BROKER, EVERYTHING, Call, Injection
from tests.calls.plan import sample, targets
from tests.calls.trial import ADOPTED, COLD, KILLED, WENT_ON, Outcome, Trial

#: Injections of the sample; each costs a second or two.
SAMPLE = int(os.environ.get("BUS_CALLS_SAMPLE", "5"))
#: The first replica that a cold start forks: of the topic "brief".
REPLICA = 1

Traces = dict[str, list[Call]]


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    return Trial(tmp_path_factory.mktemp("calls"))


@pytest.fixture(scope="module")
def traces(trial: Trial) -> Traces:
    """Every call of a life to which nothing happens; none of them does any harm."""
    found = {}
    for scenario in (COLD, ADOPTED):
        outcome = trial.run(scenario, Injection(who=EVERYTHING))
        assert not outcome.wrong, outcome.wrong
        assert outcome.report is not None
        assert outcome.deed == WENT_ON
        found[scenario] = outcome.report.calls
    return found


def assert_withstood(outcome: Outcome) -> None:
    text = "\n".join([str(outcome.injection), str(outcome.hit), *outcome.wrong, outcome.log])
    assert not outcome.wrong, text


def nth_on(calls: list[Call], who: int, name: str, target: str) -> int:
    """The number of the first such call on `target`, or else on what has that in its name."""
    such = [c for c in calls if (c.who, c.name) == (who, name) and target in c.target]
    return min(such, key=lambda c: (c.target != target, c.nth)).nth


@pytest.mark.timeout(120 + 30 * SAMPLE)
def test_a_failed_or_last_system_call_loses_nothing_and_wedges_nothing(
    trial: Trial, traces: Traces
) -> None:
    seed = int(os.environ.get("BUS_FAULT_SEED") or int.from_bytes(os.urandom(3), "big"))
    print(f"BUS_FAULT_SEED={seed}")
    found = list(targets(COLD, traces[COLD], (BROKER, REPLICA)))
    found += targets(ADOPTED, traces[ADOPTED], (BROKER,))
    for one in sample(found, SAMPLE, random.Random(seed)):
        assert_withstood(trial.run(one.scenario, one.injection))


DANGERS = [
    # a topic that grew on disk and not in memory could neither be used nor be grown again
    ("fsync", "topics/new/1/.state.json", errno.EIO),
    # no process to be had for a replica ended the broker
    ("clone", "", errno.EAGAIN),
    # the same for a descriptor, with a child running that nobody would watch
    ("pidfd_open", "", errno.EMFILE),
    # a rename that failed left its temporary file for good
    ("renameat", ".state.json", errno.ENOSPC),
    # a group whose file could not be removed was neither there nor gone until the next start
    ("unlinkat", "group.offsets", errno.EIO),
    # the same for the table of its members, which is removed after that
    ("unlinkat", "group-4.ctl", errno.EIO),
    # a new group's file had two names, and nobody reads such a file
    ("unlinkat", ".team.offsets", errno.EIO),
    ("unlinkat", ".team.offsets", 0),
    # the socket for other users could not be removed, and the bus went on for ever
    ("unlinkat", "guests.sock", errno.EIO),
    # and so did a death before the rename
    ("renameat", ".topic.json", 0),
]


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("name", "target", "error"), DANGERS)
def test_what_once_did_harm_does_none(
    trial: Trial, traces: Traces, name: str, target: str, error: int
) -> None:
    calls = traces[COLD]
    name = name if any(call.name == name for call in calls) else "clone3"
    outcome = trial.run(COLD, Injection(BROKER, name, nth_on(calls, BROKER, name, target), error))
    assert outcome.hit is not None
    assert (outcome.deed == KILLED) is (error == 0)
    assert_withstood(outcome)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("die_after", [0, 1])
def test_a_durable_file_that_could_not_be_synced_is_given_up_also_by_the_next_replica(
    trial: Trial, traces: Traces, die_after: int
) -> None:
    assert_withstood(trial.run(COLD, failed_sync(traces, die_after)))


def failed_sync(traces: Traces, die_after: int = 0) -> Injection:
    """Of a named file: the kernel takes its pages for clean, and the next sync would lie."""
    nth = nth_on(traces[COLD], REPLICA, "fdatasync", ".log")
    while not any(
        call.who == REPLICA and call.nth == nth and call.target.endswith(".log")
        for call in traces[COLD]
        if call.name == "fdatasync"
    ):
        nth += 1
    return Injection(REPLICA, "fdatasync", nth, errno.EIO, die_after)


@pytest.mark.timeout(120)
def test_a_replica_that_believes_its_failed_sync_would_be_caught(
    trial: Trial, traces: Traces, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Mirror._make_durable

    def believing(mirror: Mirror) -> None:
        try:
            real(mirror)
        except BusError:
            mirror._failed = False

    monkeypatch.setattr(Mirror, "_make_durable", believing)
    outcome = trial.run(COLD, failed_sync(traces))
    assert outcome.wrong == ["a durable file that could not be synced was not given up"]
