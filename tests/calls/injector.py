"""A broker, with all the replicas it forks, whose system calls can fail or be the last ones.

inject.c traces them. The broker is forked from this process, not started anew, so that a run costs
a fork instead of the start of an interpreter; from `bus.supervisor.main` on it is the real one.
"""

import functools
import itertools
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

from bus import autostart, supervisor
from bus.autostart import is_readable
from tests.calls import sites

#: In a report: every call is told, or none.
EVERYTHING, NOTHING = -1, -2
BROKER = 0
#: Between two rounds of what no event announces, in seconds: shorter than the real one.
TICK_S = 0.05
#: How long all processes of a bus may take to end after the broker was asked to, in seconds.
END_S = 40.0
_numbers = itertools.count()
_SOURCE = Path(__file__).with_name("inject.c")


@dataclass(frozen=True)
class Injection:
    """What happens to the `nth` call of that name which process `who` makes.

    With a `site` those are counted that it makes from there (sites.py). `error` is an errno, or 0:
    SIGKILL before the call. `die_after` more calls it is killed.
    """

    who: int = NOTHING
    call: str = "read"
    nth: int = 1
    error: int = 0
    die_after: int = 0
    site: int = 0

    @property
    def effect(self) -> str:
        """The errno's name, or SIGKILL."""
        return os_error_name(self.error) if self.error else "SIGKILL"

    def __str__(self) -> str:
        more = f", killed {self.die_after} calls later" if self.die_after else ""
        where = f" at site {self.site}" if self.site else ""
        return f"process {self.who}, {self.call} number {self.nth}{where}: {self.effect}{more}"


def os_error_name(number: int) -> str:
    """ENOSPC and the like."""
    import errno

    return errno.errorcode[number]


class Call(NamedTuple):
    """One system call that was seen, or hit: who made it, which one, on what, and from where."""

    who: int
    name: str
    nth: int
    target: str
    site: int = 0


@dataclass
class Report:
    """What the tracer saw: calls, the one that was hit, and how processes ended."""

    calls: list[Call] = field(default_factory=list)
    hit: Call | None = None
    deaths: list[Call] = field(default_factory=list)
    ends: dict[int, int] = field(default_factory=dict)


@functools.cache
def injector() -> Path:
    """The compiled tracer; it goes when this process ends."""
    import atexit

    place = Path(tempfile.mkdtemp(prefix="bus-calls-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    program = place / "inject"
    compiler = os.environ.get("CC", "cc")
    command = [compiler, "-O1", "-Wall", "-Wextra", "-Werror", str(_SOURCE), "-o", str(program)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return program


@functools.cache
def call_numbers() -> dict[str, int]:
    """Numbers of the system calls that are traced, by name."""
    listed = subprocess.run([injector()], capture_output=True, text=True, check=True)
    return {name: int(number) for name, number in map(str.split, listed.stdout.splitlines())}


class TracedBroker:
    """A broker on a bus directory, under the tracer. `end` it, whatever happens."""

    def __init__(
        self, path: Path, injection: Injection | None = None, *, arguments: Sequence[str] = ()
    ) -> None:
        """Forks it; `arguments` are added to those of `bus.supervisor`."""
        self.injection = injection or Injection()
        #: where it calls from is of interest only if one of its calls is chosen, or all are told
        self._is_watched = self.injection.who != NOTHING
        number = next(_numbers)
        self._report = path.with_name(f"{path.name}.{number}.calls")
        self.log_path = path.with_name(f"{path.name}.{number}.log")
        self._ready, ready_writer = os.pipe()
        pid_reader, pid_writer = os.pipe()
        self._command = [str(path), *arguments, "--ready-fd", str(ready_writer)]
        program, call = injector(), call_numbers().get(self.injection.call, -1)
        sys.stdout.flush()
        sys.stderr.flush()
        self._tracer = os.fork()
        if self._tracer == 0:
            self._become_tracer(program, call, ready_writer, pid_writer)
        os.close(ready_writer)
        os.close(pid_writer)
        self._answer = b""
        # What it says at its end comes before that: who takes over then would find it running.
        self._pidfd = os.pidfd_open(int(os.read(pid_reader, 100)))
        os.close(pid_reader)
        self.report: Report | None = None

    # ----------------------------------------------------------------------- the two children

    def _become_tracer(self, program: Path, call: int, ready_writer: int, pid_writer: int) -> None:
        try:
            go, go_writer = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.close(go_writer)
                self._become_broker(go, ready_writer)
            os.write(pid_writer, b"%d" % pid)
            os.close(go)
            os.close(ready_writer)
            os.set_inheritable(go_writer, True)
            chosen = self.injection
            values = [chosen.who, call, chosen.nth, chosen.error, chosen.die_after]
            values += [sites.address() if self._is_watched else 0, chosen.site]
            words = [str(pid), str(go_writer), str(self._report), *map(str, values)]
            os.execv(program, [str(program), *words])
        finally:
            os._exit(2)

    def _become_broker(self, go: int, ready_writer: int) -> None:
        code = 1
        try:
            log = os.open(self.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            for target in (1, 2):
                os.dup2(log, target)
            sys.stdout = sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
            keep = sorted((go, ready_writer))
            os.closerange(3, keep[0])
            os.closerange(keep[0] + 1, keep[1])
            os.closerange(keep[1] + 1, 4096)
            logging.root.handlers.clear()
            logging.disable(logging.NOTSET)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            vars(supervisor)["TICK_S"] = TICK_S
            os.read(go, 1)
            os.close(go)
            if self._is_watched:
                sites.watch()
            code = supervisor.main(self._command)
        except BaseException:  # noqa: BLE001 - as an interpreter ends: it must not run on into ours
            traceback.print_exc()
        finally:
            os._exit(code)

    # -------------------------------------------------------------------------------- asking

    def is_ready(self, timeout_s: float = 20.0) -> bool:
        """Waits until the broker serves (True) or has ended without (False)."""
        deadline = time.monotonic() + timeout_s
        while not self._answer.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not autostart.is_readable(self._ready, left):
                raise AssertionError(f"the broker said nothing for {timeout_s} s\n{self.log()}")
            data = os.read(self._ready, 1 << 16)
            if not data:
                return False
            self._answer += data
        return b'"epoch"' in self._answer

    @property
    def is_alive(self) -> bool:
        """False once the broker process itself has ended; its replicas may go on."""
        return not self.ends_within(0.0)

    def ends_within(self, seconds: float) -> bool:
        """Waits that long at most for the end of the broker process."""
        return is_readable(self._pidfd, seconds)

    def log(self) -> str:
        """What the processes wrote, up to now."""
        return self.log_path.read_text() if self.log_path.exists() else ""

    def kill_broker(self) -> None:
        """SIGKILL to the broker alone."""
        if self.is_alive:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            self.ends_within(END_S)

    def wait(self, timeout_s: float = END_S) -> Report | None:
        """What the tracer saw, when all processes have ended; None if they do not in time."""
        deadline = time.monotonic() + timeout_s
        while self._tracer:
            if os.waitpid(self._tracer, os.WNOHANG)[0]:
                self._tracer = 0
            elif time.monotonic() > deadline:
                return None
            else:
                time.sleep(0.002)
        if self._report.exists():
            self.report = read_report(self._report)
            self._report.unlink()
        return self.report

    def end(self) -> None:
        """Kills what is left: the tracer takes all of it along."""
        if self._tracer:
            os.kill(self._tracer, signal.SIGKILL)
            os.waitpid(self._tracer, 0)
            self._tracer = 0
        self.log_path.unlink(missing_ok=True)
        self._report.unlink(missing_ok=True)
        for name in ("_ready", "_pidfd"):
            fd = getattr(self, name)
            if fd >= 0:
                os.close(fd)
                setattr(self, name, -1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


@contextmanager
def broker(path: Path, *arguments: str) -> Iterator[TracedBroker]:
    """A broker to which nothing happens, and that serves."""
    with TracedBroker(path, arguments=arguments) as running:
        assert running.is_ready(), running.log()
        yield running


def read_report(path: Path) -> Report:
    """The tracer's file."""
    names = {number: name for name, number in call_numbers().items()}
    report = Report()
    for line in path.read_text(errors="replace").splitlines():
        event, *words = line.split(" ", 5)
        if event == "end":
            report.ends[int(words[0])] = int(words[1])
            continue
        who, number, nth, site, target = words
        name = names.get(int(number), f"call-{number}")
        call = Call(int(who), name, int(nth), target, int(site))
        if event == "hit":
            report.hit = call
        elif event == "death":
            report.deaths.append(call)
        else:
            report.calls.append(call)
    return report
