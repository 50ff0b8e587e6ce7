"""Members of a keyed group against a model: of each key, the oldest that is not done."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from bus import Broker, ConsumerRecord, Producer, ShareConsumer

#: they are of different lanes, and None has none
KEYS = (b"a", b"b", b"c", b"d", None)
#: longer than the test
HOUR_MS = 3_600_000
MEMBERS_MAX = 3


class KeyedGroup(RuleBasedStateMachine):
    """Whatever members say of their records, the next one of a key waits for the one before."""

    bus_dir: Path
    topics: Iterator[int]

    @initialize()
    def begin(self) -> None:
        self.stack = ExitStack()
        self.topic = f"model-{next(self.topics)}"
        self.producer = self.stack.enter_context(Producer(self.bus_dir, acks=1))
        self.keys: list[bytes | None] = []  # by offset
        self.over: set[int] = set()
        self.put_off: set[int] = set()
        self.held: dict[int, tuple[ShareConsumer, ConsumerRecord]] = {}
        self.members: list[ShareConsumer] = []
        self.send(KEYS[0])
        self.join()

    def due(self) -> set[int]:
        """What may be given now: without a key all, else the oldest of each key."""
        oldest: dict[bytes | None, int] = {}
        left = [offset for offset in range(len(self.keys)) if offset not in self.over]
        for offset in left:
            oldest.setdefault(self.keys[offset], offset)
        free = {one for one in left if self.keys[one] is None or oldest[self.keys[one]] == one}
        return free - self.held.keys() - self.put_off

    @rule(key=st.sampled_from(KEYS))
    def send(self, key: bytes | None) -> None:
        self.producer.send(self.topic, b"", key=key)
        self.keys.append(key)

    @precondition(lambda self: len(self.members) < MEMBERS_MAX)
    @rule()
    def join(self) -> None:
        options = {"group_id": self.topic, "bootstrap_servers": self.bus_dir, "mode": "keyed"}
        self.members.append(ShareConsumer(self.topic, **options))  # type: ignore[arg-type]

    @precondition(lambda self: len(self.members) > 1)
    @rule(which=st.integers(0, MEMBERS_MAX))
    def leave(self, which: int) -> None:
        member = self.members.pop(which % len(self.members))
        member.close()
        self.held = {at: one for at, one in self.held.items() if one[0] is not member}

    @rule(which=st.integers(0, MEMBERS_MAX), most=st.sampled_from([1, 2, 100]))
    def claim(self, which: int, most: int) -> None:
        member = self.members[which % len(self.members)]
        due = self.due()
        found = [one for some in member.poll(max_records=most).values() for one in some]
        offsets = {record.offset for record in found}
        assert len(offsets) == len(found) == min(most, len(due)), (offsets, due)
        assert offsets <= due
        self.held |= {record.offset: (member, record) for record in found}

    @precondition(lambda self: self.held)
    @rule(
        which=st.integers(0, 100),
        word=st.sampled_from(["ack", "ack", "reject", "nack", "release", "put off"]),
    )
    def say(self, which: int, word: str) -> None:
        offset = sorted(self.held)[which % len(self.held)]
        member, record = self.held.pop(offset)
        if word in ("ack", "reject"):
            getattr(member, word)(record)
            self.over.add(offset)
        elif word == "put off":
            member.nack(record, delay_ms=HOUR_MS)
            self.put_off.add(offset)
        else:
            getattr(member, word)(record)

    def teardown(self) -> None:
        for member in self.members:
            member.close()
        self.stack.close()


@pytest.mark.timeout(300)
def test_members_of_a_keyed_group_agree_with_the_model(broker: Broker, bus_dir: Path) -> None:
    class Machine(KeyedGroup):
        pass

    Machine.bus_dir = bus_dir
    Machine.topics = iter(range(1000))
    run_state_machine_as_test(
        Machine, settings=settings(max_examples=25, stateful_step_count=40, deadline=None)
    )
