"""The cross compiler, its disassembler, and qemu."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.tools import tool

TIMEOUT_S: Final = 300
_FUNCTION: Final = re.compile(r"^[0-9a-f]+ <(\w+)>:$")
#: Loads, stores and barriers that order others, and the calls and instructions that do both.
_ORDERING: Final = re.compile(
    r"\t(ldar|ldaxr|ldapr|stlr|stlxr|dmb\s+\w+|yield|(?:ldadd|ldset|ldclr|swp|cas)\w*)\b"
    r"|<__aarch64_(\w+_acq_rel)>"
)


def compiler() -> list[str]:
    """The command that compiles and links for aarch64; everything static, for qemu."""
    return [tool("aarch64-linux-gnu-gcc"), "-static"]


def emulator() -> list[str]:
    """The command before a program for aarch64."""
    return [tool("qemu-aarch64-static")]


def ordering(source: Path, directory: Path, *flags: str) -> dict[str, list[str]]:
    """Function → its instructions that order memory, in their order."""
    target = directory / f"{source.stem}.o"
    call([tool("aarch64-linux-gnu-gcc"), "-std=gnu11", "-O2", *flags, "-c", str(source)], directory)
    listing = call([tool("aarch64-linux-gnu-objdump"), "-d", "-r", "--no-show-raw-insn", target])
    found: dict[str, list[str]] = {}
    name = ""
    for line in listing.splitlines():
        if start := _FUNCTION.match(line):
            name = start[1]
            found[name] = []
        for match in _ORDERING.finditer(line):
            found[name].append(" ".join((match[1] or match[2]).split()))
        if call_to := re.search(r"R_AARCH64_CALL26\t__aarch64_(\w+_acq_rel)", line):
            found[name].append(call_to[1])
    return found


def call(command: Sequence[str | Path], directory: Path | None = None) -> str:
    """The output of a command that must succeed."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, cwd=directory
    )
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout
