"""One storm: rage, heal, drain, audit, analyse."""

import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import bus
from bus.check import check_directory
from bus.errors import BusError
from tests.broker.rig import status
from tests.buses import bus_ids, bus_processes, shared_objects, stop_bus
from tests.soak.analysis import History, Violation, judge
from tests.soak.analysis.facts import AFTER_A_POWER_CUT, AFTER_A_STOP, AT_THE_END
from tests.soak.audit import forget, note_commits, read_logs, unfinished
from tests.soak.fleet import Fleet
from tests.soak.history import ACTION, TOPIC, Diary, events
from tests.soak.nemesis import Nemesis, cut_power, serve
from tests.soak.plan import (
    CHURNER,
    CONSUMER,
    OBSERVER,
    PRODUCER,
    REPLAYER,
    TOPICS,
    actions,
    crew,
    topic_names,
)
from tests.waiting import eventually

#: Everybody has got to the end so long after the storm, in seconds.
DRAIN_S: Final = 90.0
_TICK_S: Final = 0.02
#: Workers of a round, the later lives of the killed included.
_IDS: Final = 100_000
#: The storm is over, and the producers go on for so long.
_CALM_S: Final = 2.0


@dataclass(slots=True)
class Result:
    """What a round did and found."""

    number: int
    seconds: float = 0.0
    sent: int = 0
    acknowledged: int = 0
    unknown: int = 0
    delivered: int = 0
    kept: int = 0
    joined: int = 0
    actions: Counter[str] = field(default_factory=Counter)
    losses: Counter[str] = field(default_factory=Counter)
    counters: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)
    #: from an action of the nemesis to the next acknowledged send, in seconds
    slowest_s: float = 0.0
    #: largest resident bytes of a broker and of a replica
    memory: dict[str, int] = field(default_factory=dict)


class Round:
    """Runs one round on a bus that may have seen others."""

    def __init__(
        self,
        number: int,
        seed: int,
        place: Path,
        *,
        bytes_per_s: int = 150_000,
        small: bool = False,
    ) -> None:
        self.result = Result(number)
        self._number = number
        self._seed = seed
        self._disk = place / "disk"
        self._path = place / "disk" / "bus"
        self._diaries = place / f"history-{number}"
        self._prefix = f"r{number}-"
        self._members = list(crew(number, seed, bytes_per_s=bytes_per_s, small=small))
        self._wrong: list[Violation] = []

    def run(self, seconds: float, tick: Callable[[], None] = lambda: None) -> Result:
        """The round; `tick` is called again and again. Violations stand in the result."""
        began = time.monotonic()
        self._diaries.mkdir()
        diary = Diary(self._diaries / "nemesis.jsonl")
        with ExitStack() as stack:
            stack.callback(cut_power, self._path)  # nothing runs on, however the round ends
            stack.callback(diary.close)
            fleet = stack.enter_context(Fleet(self._path, self._diaries, self._number * _IDS))
            nemesis = Nemesis(self._disk, self._path, fleet, diary)
            stack.callback(nemesis.heal)
            self._make_topics(diary)
            for member in self._members:
                fleet.start(member)
            self._rage(nemesis, fleet, seconds, tick)
            self._drain(nemesis, fleet, diary, tick)
            self._wrong += [Violation("died or hung", text) for text in fleet.wrong]
            self._audit(diary)
        self._judge()
        self.result.seconds = time.monotonic() - began
        return self.result

    def _make_topics(self, diary: Diary) -> None:
        serve(self._path)
        with bus.Admin(self._path, client_id="maker") as admin:
            forget(admin, "r")
            for kind, name in topic_names(self._number).items():
                partitions, configs = TOPICS[kind]
                diary.write(TOPIC, name, configs)
                given = {key: value for key, value in configs.items() if key != "shrinks"}
                admin.create_topics([bus.NewTopic(name, partitions, topic_configs=given)])

    def _rage(
        self, nemesis: Nemesis, fleet: Fleet, seconds: float, tick: Callable[[], None]
    ) -> None:
        until = time.monotonic() + seconds
        due = time.monotonic() + 1.0  # a breath to get going
        for action in actions(self._number, self._seed):
            while (now := time.monotonic()) < min(due, until):
                nemesis.tick()
                fleet.revive()
                tick()
                time.sleep(_TICK_S)
            if now >= until or fleet.wrong:
                return
            nemesis.strike(action)
            due = time.monotonic() + action.pause_s

    def _drain(
        self, nemesis: Nemesis, fleet: Fleet, diary: Diary, tick: Callable[[], None]
    ) -> None:
        nemesis.heal()
        calm = time.monotonic() + _CALM_S
        while time.monotonic() < calm:
            fleet.revive()
            tick()
            time.sleep(_TICK_S)
        fleet.end(PRODUCER, CHURNER)
        with bus.Admin(self._path, client_id="auditor") as admin:
            try:
                eventually(
                    lambda: (tick(), not unfinished(admin, self._prefix))[1], DRAIN_S, "drained"
                )
            except AssertionError:
                lazy = "; ".join(unfinished(admin, self._prefix))
                self._wrong.append(Violation("unread", f"not done after {DRAIN_S} s: {lazy}"))
            fleet.end(CONSUMER, REPLAYER, OBSERVER)
            note_commits(admin, diary, self._prefix)
        self.result.counters.update(status(self._path)["counters"])

    def _audit(self, diary: Diary) -> None:
        """The logs as they are, after a stop or a loss of all memory, and what is left behind."""
        try:
            self.result.kept = read_logs(self._path, diary, AT_THE_END, self._prefix)
            which = AFTER_A_POWER_CUT if self._number % 2 else AFTER_A_STOP
            if which == AFTER_A_POWER_CUT:
                cut_power(self._path)
            else:
                stop_bus(self._path)
            read_logs(self._path, diary, which, self._prefix)
            stop_bus(self._path)
        except (BusError, AssertionError) as error:
            self._wrong.append(Violation("unreadable", f"{type(error).__name__}: {error}"))
            stop_bus(self._path)
        diary.write(ACTION, "audit", time.monotonic_ns(), "")
        left = [f"process {one.pid}" for one in bus_processes(self._path)]
        left += shared_objects(bus_ids(self._path))
        self._wrong += [Violation("left behind", text) for text in left]
        self._wrong += [Violation("damage", str(one)) for one in check_directory(self._path)]

    def _judge(self) -> None:
        history = History.of(events(self._diaries))
        result = self.result
        result.violations = [*self._wrong, *judge(history)]
        result.sent = len(history.sent)
        result.acknowledged = sum(one.is_acknowledged for one in history.sent.values())
        result.unknown = sum(not (s.stored or s.refused) for s in history.sent.values())
        result.delivered = sum(len(run.names) for run in history.runs)
        result.joined = sum(group is not None for group in history.groups.values())
        result.slowest_s = history.slowest_recovery_s()
        result.actions = history.actions
        result.losses = Counter(loss.kind for loss in history.losses)
        for _, role, resident, _ in history.memory:
            result.memory[role] = max(resident, result.memory.get(role, 0))
