"""What killed processes, other buses and strangers may have left where a bus starts: a table.

Each kind is planted into a bus directory whose processes are gone, and into shared memory. OWN are
to be gone after the next start, or its stop at the latest; FOREIGN stay as they are.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from bus.directory import BusDirectory
from tests.buses import SHARED_MEMORY

OWN, FOREIGN = "own", "foreign"
#: of a bus that nobody knows
OTHER_ID = os.urandom(8).hex()


@dataclass
class Scene:
    """A bus that is not running, and a process that has nothing to do with it."""

    path: Path
    innocent: int
    #: files and directories that were planted; each kind adds its own
    planted: list[Path] = field(default_factory=list)

    @property
    def bus_id(self) -> str:
        return str(json.loads((self.path / "bus.json").read_text())["bus_id"])

    @property
    def hot(self) -> Path:
        """Where the hot directory is, or would be."""
        return SHARED_MEMORY / f"bus-{os.geteuid()}-{self.bus_id}"

    def file(self, path: Path, content: bytes = b"left over") -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o600)
        self.planted.append(path)

    def directory(self, path: Path) -> None:
        path.mkdir(mode=0o700, parents=True)
        self.planted.append(path)


Plant = Callable[[Scene], None]
KINDS: dict[str, tuple[str, Plant]] = {}


def kind(name: str, whose: str) -> Callable[[Plant], Plant]:
    def add(plant: Plant) -> Plant:
        KINDS[name] = (whose, plant)
        return plant

    return add


# ------------------------------------------------------------------------- in the bus directory


@kind("a topic that was half made", OWN)
def half_made(scene: Scene) -> None:
    scene.directory(scene.path / "topics" / "~new-77" / "0")
    scene.directory(scene.path / "topics" / "~new-78")


@kind("a topic that was half removed, at every step", OWN)
def half_removed(scene: Scene) -> None:
    for step in range(5):
        old = scene.path / "topics" / f"~old-{80 + step}"
        scene.directory(old)
        for partition in range(step, 2):
            scene.file(old / str(partition) / f"{0:020}.log")
        if step < 3:
            scene.file(old / "topic.json", b"{}")


@kind("files that were to replace others", OWN)
def temporaries(scene: Scene) -> None:
    for relative in (
        ".runtime.json.12-3.tmp",
        ".epoch.12-3.tmp",
        "topics/t/.topic.json.12-3.tmp",
        "topics/t/0/.state.json.12-3.tmp",
        f"topics/t/0/{99:020}.log.tmp",
        "groups/.g.offsets.12-3.tmp",
    ):
        scene.file(scene.path / relative)


@kind("a socket of a broker that was killed", OWN)
def stale_socket(scene: Scene) -> None:
    """It is replaced by the next one's, and gone when that stops."""
    (scene.path / "broker.sock").unlink(missing_ok=True)
    scene.file(scene.path / "broker.sock")


@kind("pids that belong to another process now", FOREIGN)
def reused_pids(scene: Scene) -> None:
    """The files are rewritten; the process is what must stay as it is."""
    pid = f"{scene.innocent}\n".encode()
    (scene.path / "broker.lock").write_bytes(pid)
    (scene.path / "topics/t/0/replica.lock").write_bytes(pid.strip().ljust(20))
    with BusDirectory.open(scene.path) as directory:
        runtime = directory.read_runtime()
        if runtime is not None:
            directory.write_runtime(replace(runtime, pid=scene.innocent))


@kind("files that the bus never made", FOREIGN)
def strange_files(scene: Scene) -> None:
    scene.file(scene.path / "notes.txt")
    scene.file(scene.path / "topics" / "read me.txt")
    scene.file(scene.path / "topics" / "t" / "0" / "thesis.odt")
    scene.file(scene.path / "groups" / "list.txt")
    scene.directory(scene.path / "topics" / "not a topic")
    scene.directory(scene.path / "backup")


@kind("a view of the clock that says nothing", FOREIGN)
def clock(scene: Scene) -> None:
    (scene.path / "clock.json").write_bytes(b"\0\0")
    (scene.path / "clock.json").chmod(0o600)


# ----------------------------------------------------------------------------- in shared memory


@kind("hot files that no ring names", OWN)
def stray_hot_files(scene: Scene) -> None:
    if scene.hot.exists():
        for name in ("9-0.ctl.new", "9-0.ctl", "1-0.77.seg", "9-3.1.seg", "1-0.ctl.new"):
            scene.file(scene.hot / name)


@kind("a hot directory that was put aside", OWN)
def aside(scene: Scene) -> None:
    scene.file(scene.hot.with_name(f"{scene.hot.name}.old") / "1-0.ctl")


@kind("doorbells of an earlier life of the bus, one of them half made", OWN)
def doorbells(scene: Scene) -> None:
    prefix = f"sem.bus-{scene.bus_id}-{1:016x}"
    scene.file(SHARED_MEMORY / f"{prefix}-3-12345", bytes(32))
    scene.file(SHARED_MEMORY / f"{prefix}-4-12346", b"")


@kind("shared memory of another bus", FOREIGN)
def another_bus(scene: Scene) -> None:
    scene.file(SHARED_MEMORY / f"sem.bus-{OTHER_ID}-{1:016x}-0-5", bytes(32))
    scene.file(SHARED_MEMORY / f"bus-{os.geteuid()}-{OTHER_ID}" / "1-0.1.seg")
    scene.planted.append(SHARED_MEMORY / f"bus-{os.geteuid()}-{OTHER_ID}")


@kind("shared memory of another program", FOREIGN)
def another_program(scene: Scene) -> None:
    scene.file(SHARED_MEMORY / f"sem.{scene.bus_id}")
    scene.file(SHARED_MEMORY / f"sem.xbus-{scene.bus_id}-1-2-3")
    scene.file(SHARED_MEMORY / f"bus-{scene.bus_id}-notes")
