"""The workers of a round: one process each, started again under another name when it dies."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bus.autostart import environment
from tests.soak.plan import Member

#: Asked to end, a worker has so long to finish what it does, in seconds.
END_S: Final = 100.0
_ERROR_TEXT: Final = 6_000


@dataclass(eq=False)
class Worker:
    """A process of the fleet."""

    member: Member
    name: str
    process: "subprocess.Popen[bytes]"
    errors: Path
    #: the nemesis has killed it
    killed: bool = False


class Fleet:
    """All workers of a round. A context manager: at its end they are dead."""

    def __init__(self, path: Path, diaries: Path, first_id: int) -> None:
        self.workers: list[Worker] = []
        self.wrong: list[str] = []
        self._path = path
        self._diaries = diaries
        self._first_id = first_id
        self._born = 0

    def start(self, member: Member) -> None:
        """One more worker."""
        self._born += 1
        name = f"{member.role}-{self._born}"
        diary, errors = self._diaries / f"{name}.jsonl", self._diaries / f"{name}.err"
        orders = member.orders | {"name": name, "diary": str(diary)}
        orders["id"] = self._first_id + self._born  # nobody goes on with the numbers of the dead
        command = [sys.executable, "-P", "-m", f"tests.soak.{member.role}", str(self._path)]
        with errors.open("wb") as output:
            process = subprocess.Popen(
                [*command, json.dumps(orders)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment(),
            )
        self.workers.append(Worker(member, name, process, errors))

    def revive(self) -> None:
        """Start again whom the nemesis has killed. Whoever ended otherwise is a violation."""
        for worker in list(self.workers):
            code = worker.process.poll()
            if code is not None:
                self.workers.remove(worker)
                if not worker.killed:
                    self._accuse(worker, code)
                self.start(worker.member)

    def _accuse(self, worker: Worker, code: int) -> None:
        text = worker.errors.read_text(errors="replace")[-_ERROR_TEXT:]
        self.wrong.append(f"{worker.name} ended with {code}:\n{text}")

    def find(self, pid: int) -> Worker | None:
        """The worker with this process id."""
        return next((one for one in self.workers if one.process.pid == pid), None)

    def end(self, *roles: str) -> None:
        """Ask all of these roles to end, and wait for it. Who does not is a violation."""
        ending = [one for one in self.workers if one.member.role in roles]
        for worker in ending:
            worker.process.terminate()
        limit = time.monotonic() + END_S
        for worker in ending:
            try:
                code = worker.process.wait(max(limit - time.monotonic(), 0.01))
            except subprocess.TimeoutExpired:
                worker.process.send_signal(signal.SIGABRT)  # its stacks go to the error file
                code = worker.process.wait()
            if code not in (0, -signal.SIGTERM) and not worker.killed:  # asked before it listened
                self._accuse(worker, code)
            self.workers.remove(worker)

    def __enter__(self) -> "Fleet":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.process.kill()
        for worker in self.workers:
            worker.process.wait()
