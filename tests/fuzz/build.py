"""Compiles the fuzz loop of the native core under the sanitizers."""

import subprocess
import sysconfig
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
NATIVE: Final = ROOT / "bus" / "native"
STAGE: Final = ROOT / "tests" / "native"
FLAGS: Final = ["-std=gnu11", "-g", "-O1", "-Wall", "-Wextra", "-fno-omit-frame-pointer"]
SANITIZERS: Final = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def build_core(directory: Path) -> Path:
    """The compiled core as Python imports it, under the sanitizers; preload `libasan()` for it."""
    library = directory / "core.so"
    assert (NATIVE / "core.c").exists(), "install bus first: that makes core.c"
    sources = sorted(map(str, NATIVE.glob("*.c")))
    includes = [f"-I{NATIVE}", f"-I{sysconfig.get_paths()['include']}"]
    flags = [*FLAGS[:3], "-w", "-fno-omit-frame-pointer", "-fPIC", "-shared"]
    command = ["cc", *flags, *SANITIZERS, *includes, *sources, "-pthread", "-lrt", "-o"]
    built = subprocess.run([*command, str(library)], capture_output=True, text=True, timeout=900)
    assert built.returncode == 0, built.stderr
    return library


def libasan() -> str:
    """The runtime that a Python with a sanitized extension must be started with."""
    asked = subprocess.run(
        ["cc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    )
    return asked.stdout.strip()


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
