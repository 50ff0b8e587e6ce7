"""Which time retention goes by, when the wall clock may be set by anybody at any moment.

A clock that is set years ahead, even for a moment, would make every record look older than
`retention.ms`. So a step ahead is not believed before it has stood for CONFIRM_S; until then the
time goes on as it went before the step. Whoever set the clock by mistake has that long to notice.

    believed ──step ahead──► suspected ──stood for CONFIRM_S──► believed, as it is now
       ▲                        │  ▲
       │                        │  └─ another step: the wait begins anew
       └──────back again────────┘

A step back is believed at once: by an earlier time less is too old, so nothing is deleted by it.

Steps are told by CLOCK_BOOTTIME, which nobody can set and which counts the time of a suspended
machine. It begins anew with each boot, so what a reboot did to the clock cannot be told: the first
look in a boot believes what it sees. The bus directory keeps the view (`clock.json`), or a clock
that was set while no broker ran, or just before one was started, would be believed.
"""

import json
import logging
import time
from dataclasses import asdict, dataclass
from typing import Final

from bus import files
from bus.directory import BusDirectory, boot_id
from bus.errors import BusError
from bus.incidents import Incident, Incidents

logger = logging.getLogger(__name__)

CLOCK_FILE: Final = "clock.json"
#: A clock that is ahead for so long is no accident any more, in seconds.
CONFIRM_S: Final = 3600
#: Clocks that are slewed into step move by less than this between two looks, in seconds.
TOLERANCE_S: Final = 1
NS: Final = 1_000_000_000
#: Two clocks that were read within so long were read at one moment, in ns; and how often to try.
MOMENT_NS: Final = 10_000_000
LOOKS: Final = 10


@dataclass(frozen=True, slots=True)
class View:
    """What is believed. Offsets are CLOCK_REALTIME less CLOCK_BOOTTIME, all times in ns."""

    offset_ns: int
    #: the offset after a step ahead that is not believed yet, and the boot time when it was seen
    suspected_ns: int | None = None
    since_ns: int = 0


def look(view: View, offset_ns: int, boottime_ns: int) -> View:
    """The view after a look that found this offset at this time."""
    if offset_ns <= view.offset_ns + TOLERANCE_S * NS:
        return View(offset_ns)
    suspected_ns = view.suspected_ns
    if suspected_ns is None or abs(offset_ns - suspected_ns) > TOLERANCE_S * NS:
        return View(view.offset_ns, offset_ns, boottime_ns)
    if boottime_ns - view.since_ns >= CONFIRM_S * NS:
        return View(offset_ns)
    return View(view.offset_ns, offset_ns, view.since_ns)


class WallClock:
    """The time that retention goes by, of one broker. `incidents` counts the steps."""

    def __init__(self, directory: BusDirectory, incidents: Incidents) -> None:
        """Goes on with what a broker of this boot believed, or believes the clock as it is."""
        self._directory = directory
        self._incidents = incidents
        self._stored: View | None = _load(directory)
        self._view = self._stored or View(_look_at_clocks()[0])
        self._store()  # before the first look at records, which may be minutes away

    def now_ns(self) -> int:
        """Looks at the clock; the time in ns since the epoch, but for a step not believed yet."""
        offset_ns, boottime_ns = _look_at_clocks()
        before, self._view = self._view, look(self._view, offset_ns, boottime_ns)
        self._tell(before)
        self._store()
        return self._view.offset_ns + boottime_ns

    def _tell(self, before: View) -> None:
        view = self._view
        moved_ns = (view.offset_ns if view.suspected_ns is None else view.suspected_ns) - (
            before.offset_ns if before.suspected_ns is None else before.suspected_ns
        )
        if abs(moved_ns) > TOLERANCE_S * NS:
            self._incidents.note(
                Incident.CLOCK_STEPPED,
                "the clock was set %s by %.0f s; %s",
                "ahead" if moved_ns > 0 else "back",
                abs(moved_ns) / NS,
                "retention goes by it"
                if view.suspected_ns is None
                else f"retention goes on by the time before, until it has stood for {CONFIRM_S} s",
            )
        elif before.suspected_ns is not None and view.suspected_ns is None:
            logger.warning("the clock has stood for %d s; retention goes by it now", CONFIRM_S)

    def _store(self) -> None:
        """Only what has changed by more than a clock drifts in a few days."""
        if self._stored is not None and _is_alike(self._stored, self._view):
            return
        content = json.dumps({"boot_id": boot_id(), **asdict(self._view)}).encode()
        try:
            files.write_atomic(self._directory.fd, CLOCK_FILE, content + b"\n", durable=False)
        except BusError as error:  # retention is what makes room on a full disk: it goes on
            self._incidents.note(
                Incident.CALL_RETRIED, "what the clock showed could not be kept: %s", error
            )
            return
        self._stored = self._view


def _look_at_clocks() -> tuple[int, int]:
    """CLOCK_REALTIME less CLOCK_BOOTTIME, and the latter, in ns.

    A process that was stopped between the two would take the time it was stopped for a step of the
    clock, and an hour's wait for one that has stood would begin anew. So the narrowest look counts.
    """
    looks = []
    for _ in range(LOOKS):
        before_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        wall_ns = time.time_ns()
        width_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - before_ns
        looks.append((width_ns, wall_ns - before_ns, before_ns))
        if width_ns <= MOMENT_NS:
            break
    _, offset_ns, boottime_ns = min(looks)
    return offset_ns, boottime_ns


def _is_alike(one: View, other: View) -> bool:
    if (one.suspected_ns is None) != (other.suspected_ns is None):
        return False
    return (
        abs(one.offset_ns - other.offset_ns) < TOLERANCE_S * NS and one.since_ns == other.since_ns
    )


def _load(directory: BusDirectory) -> View | None:
    """What was stored in this boot; a file that says nothing that can be used is none."""
    text = files.read_bytes(directory.fd, CLOCK_FILE)
    if text is None:
        return None
    try:
        content = json.loads(text)
        if content.pop("boot_id") != boot_id():
            return None
        view = View(**content)
        times = (view.offset_ns, view.suspected_ns or 0, view.since_ns)
        if not all(isinstance(one, int) for one in times):
            raise TypeError("its times are no numbers")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        logger.warning("%s says nothing that can be used (%s); it is a cache", CLOCK_FILE, error)
        return None
    return view
