"""Builds the stepping program of tests/steps/acks, and runs it: share groups' ack tables."""

import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tests.steps.native_sweep import PROGRAM, ROOT, Breakage, Sweep, Swept, compiled

ACKS: Final = PROGRAM.parent / "acks"
#: what it has in common with the paths of the log, and with tests/native
_SHARED: Final = [PROGRAM / name for name in ("tracer.c", "fault.c", "client.c", "arena.c")]
_INCLUDES: Final = [ACKS, PROGRAM, ROOT / "tests" / "native"]

#: What the sweep must notice, and on which path.
BREAKAGES: Final[dict[str, tuple[str, list[Breakage]]]] = {
    "an overtaken record leaves the ring before it has its place": (
        "share overtake",
        [
            (
                "acks.c",
                "        room->offset = acks->base;\n",
                "        uint64_t was = acks->base;\n"
                "        bus_store_release(&acks->base, was + 1);\n"
                "        room->offset = was;\n",
            ),
            (
                "acks.c",
                "        bus_store_release(&acks->base, acks->base + 1); /* before: it counts in"
                " the ring alone */\n",
                "",
            ),
        ],
    ),
    "the copy of a record that was not overtaken yet is kept": (
        "share overtake",
        [("acks_mend.c", "is_final(ack) || ack->offset >= base", "is_final(ack)")],
    ),
    "a record counts before its slot is filled in": (
        "share overtake",
        [
            (
                "acks.c",
                "        bus_store_release(&ack->word, BUS_ACK_NONE); /* and without the lane of"
                " another record */\n        ack->offset = acks->next;\n",
                "        ack->offset = acks->next;\n"
                "        bus_store_release(&acks->next, acks->next + 1);\n",
            ),
            (
                "acks.c",
                "        bus_store_release(&acks->next, acks->next + 1); /* last: from here on the"
                " slot counts */\n",
                "",
            ),
        ],
    ),
    "a delayed record has no time yet": (
        "share settle delayed",
        [
            (
                "ack_slots.h",
                "    ack->due_ns = due_ns;\n    put(ack, BUS_ACK_DELAYED, 0);\n",
                "    put(ack, BUS_ACK_DELAYED, 0);\n    ack->due_ns = due_ns;\n",
            )
        ],
    ),
    "mending leaves bits of what is not ready": (
        "share mend",
        [("acks_mend.c", "    memset(acks->ready_bits, 0, sizeof acks->ready_bits);\n", "")],
    ),
    "mending counts what is held twice": (
        "share mend",
        [("acks_mend.c", "        acks->claimants[i].held = 0;\n", "")],
    ),
    "a wide jump moves the end first": (
        "share jump further",
        [
            (
                "acks.c",
                "        bus_store_release(&acks->base, to); /* first: a base above `next` tells of"
                " a death here */\n        bus_store_release(&acks->next, to);\n",
                "        bus_store_release(&acks->next, to);\n"
                '        __asm__ volatile("" ::: "memory");\n'
                "        bus_store_release(&acks->base, to);\n",
            )
        ],
    ),
}


def build(directory: Path, breakages: Iterable[Breakage] = ()) -> Path:
    """The stepping program, with the core as it is or broken on purpose."""
    return compiled(directory, "acks", [*ACKS.glob("*.c"), *_SHARED], _INCLUDES, breakages)


def sweep(program: Path, *options: str, timeout_s: float) -> Sweep:
    """Runs the program to its end."""
    done = subprocess.run(
        [str(program), *options], capture_output=True, text=True, timeout=timeout_s
    )
    paths, violations = [], []
    for line in done.stdout.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "violation":
            violations.append(rest)
        elif kind == "path":
            name, *numbers, seconds = rest.split("|")
            paths.append(Swept(name, *map(int, numbers), float(seconds)))
    ended = done.stdout.endswith("swept\n")
    assert ended or violations, f"it ended early with status {done.returncode}: {done.stderr}"
    return Sweep(tuple(paths), tuple(violations))
