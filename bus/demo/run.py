"""The run of the demo: stream, kill, aggregate, compare.

Everything that shows something is a callback; nothing here prints.
"""

import json
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bus.admin import Admin
from bus.consumer import Consumer
from bus.demo.corpus import SourceFile
from bus.demo.crew import Crew
from bus.demo.tally import Tally, count_tokens
from bus.errors import BrokerNotRunningError, BusTimeoutError, GroupIdNotFoundError
from bus.native.core import ConsumerRecord
from bus.producer import Producer
from bus.structs import NewTopic

logger = logging.getLogger(__name__)

PARTITIONS = 4
WORKERS = 3
#: With no file counted for so long, something hangs: the demo says so and ends.
STALL_S = 60.0
#: Seconds between two looks at the group's lag and at the workers.
_LOOK_S = 0.2
#: Files sent between two looks at the counts that came back.
_SEND_AT_ONCE = 50
_POLL_MS = 50
#: A change of topics is asked for so often, should each time the broker be killed over it.
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Moment:
    """How far the run is: files sent and counted, files behind the group, workers alive."""

    sent: int
    counted: int
    lag: int
    workers: int
    seconds: float


@dataclass(slots=True)
class Outcome:
    """What came out of the bus, and how."""

    tally: Tally
    seconds: float = 0.0
    killed: list[int] = field(default_factory=list)
    #: files counted by each worker's pid
    by_worker: Counter[int] = field(default_factory=Counter)
    #: seconds from the kill to the first file that another worker took from one of its partitions
    takeover_s: float | None = None


class Run:
    """One run over `files` on the bus in `directory`, in topics and a group of its own."""

    def __init__(
        self, directory: Path, files: Sequence[SourceFile], show: Callable[[Moment], None]
    ) -> None:
        token = secrets.token_hex(4)
        self.group = f"demo-workers-{token}"
        self.sources = f"demo-sources-{token}"
        self.counts = f"demo-counts-{token}"
        self._directory = directory
        self._files = files
        self._show = show
        self._outcome = Outcome(Tally())
        self._sent = 0
        self._started = self._moved = self._looked = time.monotonic()
        self._killed_at: float | None = None
        #: the worker that served each partition last, before the kill
        self._servers: dict[int, int] = {}
        self._orphans: set[int] = set()
        self._victim = 0

    def run(self, *, kill: bool = True) -> Outcome:
        """Stream all files through the bus; with `kill`, kill one worker half-way.

        Raises BusTimeoutError if no file is counted for STALL_S seconds.
        """
        arguments = [str(self._directory), self.group, self.sources, self.counts]
        with Admin(self._directory, client_id="demo-admin") as admin:
            _insist(lambda: self._create_topics(admin))
            with self._aggregator() as aggregator, Crew(arguments, WORKERS) as crew:
                self._started = self._moved = time.monotonic()
                self._stream(aggregator)
                while not self._finished:
                    self._take(aggregator)
                    self._look(admin, crew, kill=kill)
                self._outcome.seconds = time.monotonic() - self._started
                crew.alive()
                self._outcome.killed = crew.killed
        return self._outcome

    def clean_up(self) -> None:
        """Delete the topics and the group of this run."""
        with Admin(self._directory, client_id="demo-admin") as admin:
            _insist(lambda: self._delete(admin))

    def _create_topics(self, admin: Admin) -> None:
        present = set(admin.list_topics())
        topics = [NewTopic(self.sources, PARTITIONS), NewTopic(self.counts, 1)]
        admin.create_topics([topic for topic in topics if topic.name not in present])

    def _delete(self, admin: Admin) -> None:
        present = set(admin.list_topics())
        admin.delete_topics([one for one in (self.sources, self.counts) if one in present])
        groups = {group["group_id"] for group in admin.list_groups()}
        admin.delete_groups([self.group] if self.group in groups else [])

    @property
    def _finished(self) -> bool:
        return len(self._outcome.tally.names) == len(self._files)

    def _aggregator(self) -> Consumer:
        return Consumer(
            self.counts,
            bootstrap_servers=self._directory,
            client_id="demo-aggregator",
            auto_offset_reset="earliest",
        )

    def _stream(self, aggregator: Consumer) -> None:
        """Send every file, keyed by its name; counts are taken meanwhile."""
        with Producer(self._directory, client_id="demo-producer") as producer:
            for file in self._files:
                producer.send(self.sources, file.path.read_bytes(), key=file.name.encode())
                self._sent += 1
                if self._sent % _SEND_AT_ONCE == 0:
                    self._take(aggregator, wait_ms=0)
            producer.flush()

    def _take(self, aggregator: Consumer, wait_ms: float = _POLL_MS) -> None:
        for batch in aggregator.poll(timeout_ms=wait_ms).values():
            for record in batch:
                self._add(record)

    def _add(self, record: ConsumerRecord) -> None:
        result = json.loads(record.value)
        outcome = self._outcome
        if not outcome.tally.add(record.key.decode(), result["counts"]):
            return
        worker, partition = result["worker"], result["partition"]
        outcome.by_worker[worker] += 1
        self._moved = time.monotonic()
        if self._killed_at is None:
            self._servers[partition] = worker
        elif outcome.takeover_s is None and partition in self._orphans and worker != self._victim:
            outcome.takeover_s = self._moved - self._killed_at

    def _look(self, admin: Admin, crew: Crew, *, kill: bool) -> None:
        """Show how far it is; kill a worker when it is half done; notice a stall."""
        now = time.monotonic()
        counted = len(self._outcome.tally.names)
        if now - self._moved > STALL_S:
            raise BusTimeoutError(
                f"no file was counted for {STALL_S:g} s; {len(self._files) - counted} are left:"
                f" look with: bus groups describe {self.group} --dir {self._directory}"
            )
        if now - self._looked < _LOOK_S:
            return
        self._looked = now
        workers = crew.alive()
        if kill and self._killed_at is None and 2 * counted >= len(self._files):
            self._kill(crew, workers[0])
        self._show(Moment(self._sent, counted, self._lag(admin), len(workers), now - self._started))

    def _kill(self, crew: Crew, victim: int) -> None:
        """Kill a worker, and remember which partitions it was serving."""
        crew.kill(victim)
        self._victim = victim
        self._killed_at = time.monotonic()
        self._orphans = {one for one, worker in self._servers.items() if worker == victim}

    def _lag(self, admin: Admin) -> int:
        """Files that the group has not committed yet."""
        try:
            committed = admin.list_group_offsets(self.group)[self.group]
        except GroupIdNotFoundError:  # no worker has joined yet
            return self._sent
        return self._sent - sum(place.offset for place in committed.values())


def _insist(action: Callable[[], None]) -> None:
    """Do what looks first and then does the rest, again if the broker dies over it."""
    for _ in range(_TRIES - 1):
        try:
            return action()
        except BrokerNotRunningError as error:
            logger.warning("%s; trying again", error)
    return action()


def plain_totals(
    files: Sequence[SourceFile], show: Callable[[int], None]
) -> tuple[Counter[str], float]:
    """The same counts by a loop in this process, and its seconds. `show` gets files done."""
    started = time.monotonic()
    totals: Counter[str] = Counter()
    for done, file in enumerate(files, 1):
        totals.update(count_tokens(file.path.read_bytes()))
        show(done)
    return totals, time.monotonic() - started
