"""What the tests of resources measure, kept for docs/resources.md."""

import json
import os
from pathlib import Path

import psutil

#: where the figures go, a JSON line each; without it they are only printed
FILE = os.environ.get("BUS_RESOURCE_FIGURES")


def note(what: str, value: str) -> None:
    """One measured value, with its unit in it."""
    print(f"{what}: {value}")
    if FILE:
        with Path(FILE).open("a") as file:
            file.write(json.dumps([what, value]) + "\n")


def own_mib(pid: int) -> float:
    """Memory that a process does not share with any other, in MiB."""
    return float(psutil.Process(pid).memory_full_info().uss) / (1 << 20)


def descriptors(pid: int) -> int:
    """How many descriptors it has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))
