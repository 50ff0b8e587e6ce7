"""Compiles the fuzz loop of the native core under the sanitizers."""

import subprocess
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
NATIVE: Final = ROOT / "bus" / "native"
STAGE: Final = ROOT / "tests" / "native"
FLAGS: Final = ["-std=gnu11", "-g", "-O1", "-Wall", "-Wextra", "-fno-omit-frame-pointer"]
SANITIZERS: Final = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def build_fuzzer(directory: Path) -> Path:
    """The program `readers`: core, stage and loop, without Python."""
    program = directory / "readers"
    core = [path for path in NATIVE.glob("*.c") if path.name != "core.c"]
    sources = sorted(map(str, [*core, STAGE / "stage.c", Path(__file__).with_name("readers.c")]))
    includes = [f"-I{NATIVE}", f"-I{STAGE}"]
    command = ["cc", *FLAGS, *SANITIZERS, *includes, *sources, "-pthread", "-lrt", "-o"]
    built = subprocess.run([*command, str(program)], capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stderr
    return program
