"""Power losses by the thousand: python -m tests.power [--images 2000] [--seed N] [--page FILE].

Ends at the first image after which a promise does not hold; its seed and number make it again
(`--seed N --only NUMBER`).
"""

import argparse
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

from tests.power import realdisk
from tests.power.images import Cutter, Failure, record
from tests.power.places import memory_place

#: A bus lives for so many steps, and is cut so often.
STEPS = 300
IMAGES_OF_A_LIFE = 100
#: Rounds of up to four records that a real disk takes.
DISK_ROUNDS = 100
#: The kinds of sync that a control leaves out, and how often each such disk is cut.
CONTROLS = ("fdatasync", "fsync", "directory")
CONTROL_IMAGES = 30


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.power", description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--cuts", type=int, default=200, help="power losses of a real ext4")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    parser.add_argument("--only", type=int, help="number of the one image of that seed to make")
    parser.add_argument("--page", type=Path, help="write the counts to this Markdown file")
    return parser.parse_args()


def _commit() -> str:
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or "unknown"


def cut_life(seed: int, numbers: range) -> tuple[int, int, Failure | None]:
    """Images and operations of one life, and the first image that failed."""
    with memory_place() as place:
        recording = record(place, seed, STEPS)
        cutter = Cutter(recording, place, seed)
        for number in numbers:
            failure = cutter.cut(number)
            if failure is not None:
                return cutter.images, len(recording.tape), failure
        return cutter.images, len(recording.tape), None


def found_out(seed: int, sync: str) -> int:
    """How many images of a disk that leaves out a kind of sync break a promise."""
    with memory_place() as place:
        cutter = Cutter(record(place, seed, STEPS, frozenset({sync})), place, seed)
        return sum(cutter.cut(number) is not None for number in range(CONTROL_IMAGES))


def cut_disk(seed: int, cuts: int) -> str | None:
    """Cuts a real disk; what is wrong after the first cut that breaks a promise."""
    with memory_place() as place:
        run = realdisk.record(place, seed, DISK_ROUNDS)
        for number in range(cuts):
            if wrong := realdisk.cut(run, place, number, seed):
                return f"cut {number} of the disk of seed {seed}: {wrong}"
    return None


def page(rows: list[tuple[str, object]], *, seed: int, commit: str, arguments: str) -> str:
    """docs/power.md: written only when no image failed."""
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    return f"""# Power loss: what was cut, and what was lost

`tox -e power` records everything that a bus does to its disk: creations, writes, syncs of files
and of directories, renames, links, removals, and what is written through mappings. In between it
records what was promised: a high watermark, a topic's creation, a moved log start, synced offsets.
Topics come and go meanwhile, segments roll, processes are killed and the bus goes on.

Then the power is cut between any two operations. What was synced is there; of all else any part
may be, page by page in any version, torn at 512 bytes, with or without the file's new length; of
the changes of a directory any subset. The bus recovers from what is left; every acknowledged record
must be there, byte by byte and in order, no record that was never sent, no synced offset may be
lost or go back, `bus check` must find no damage, no file may be left over, and the bus must go on
with offsets that were never given out. Every third image is cut again in its recovery, and that
one once more.

The images come from a model, which promises less than a filesystem does. The real cuts come from an
ext4 on a loop device over a disk that logs each write and flush: a broker, its replicas and a
producer run on it; what was written since the last flush is there, torn at 512 bytes, or not; the
kernel replays its journal, and the bus recovers.

Last run: {time.strftime("%Y-%m-%d")}, at commit {commit}, seed {seed}
(`tox -e power -- {arguments}` makes the same images).

| | |
|---|---|
{table}
"""


def main() -> int:
    """Exit code 0: every promise held, and every control was found out."""
    options = _parse()
    logging.disable(logging.CRITICAL)  # recoveries tell what they cut, thousands of times
    if options.only is not None:
        _, _, failure = cut_life(options.seed, range(options.only, options.only + 1))
        print(failure or "holds")
        return int(failure is not None)
    images = operations = lives = 0
    while images < options.images:
        count, length, failure = cut_life(options.seed + lives, range(IMAGES_OF_A_LIFE))
        if failure is not None:
            print(f"FAILED\n{failure}", flush=True)
            return 1
        images, operations, lives = images + count, operations + length, lives + 1
        print(f"{images} images of {lives} lives hold", flush=True)
    rows: list[tuple[str, object]] = [
        ("lives of a bus", lives),
        ("operations on the disk", operations),
        ("crash images booted, recovered and checked", images),
        ("images after which a promise was broken", 0),
    ]
    for sync in CONTROLS:
        broken = found_out(options.seed, sync)
        rows.append((f"control: images broken without {sync} (of {CONTROL_IMAGES})", broken))
        if not broken:
            print(f"FAILED: a disk without {sync} was not found out")
            return 1
    if wrong := cut_disk(options.seed, options.cuts):
        print(f"FAILED\n{wrong}")
        return 1
    rows += [("real ext4: power cuts, mounted, recovered and checked", options.cuts)]
    rows += [("real ext4: cuts after which a promise was broken", 0)]
    print("\n".join(f"{name}: {value}" for name, value in rows))
    if options.page:
        options.page.write_text(
            page(
                rows,
                seed=options.seed,
                commit=_commit(),
                arguments=f"--seed {options.seed} --images {options.images} --cuts {options.cuts}",
            )
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
