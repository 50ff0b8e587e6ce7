"""Builds the C test of the native core and runs it; under the sanitizers if BUS_SANITIZE=1."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "bus" / "native"
TESTS = Path(__file__).resolve().parent
FLAGS = ["-std=gnu11", "-g", "-Wall", "-Wextra", "-Werror", "-fno-omit-frame-pointer"]

PLAIN = {"plain": ["-O3"]}
SANITIZED = {
    # The address and undefined-behaviour sanitizers work together; the thread sanitizer alone.
    "address": ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    # It does not model lone fences and says so; their users are tested by counting, too.
    "thread": ["-O1", "-fsanitize=thread", "-Wno-tsan"],
}
VARIANTS = SANITIZED if os.environ.get("BUS_SANITIZE") == "1" else PLAIN
#: Compiling and running take about 10 s on two slow cores.
TIMEOUT_S = 300

SANITIZER_OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=1:strict_string_checks=1",
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}


def build(directory: Path, flags: list[str]) -> Path:
    """Compiles the core's C files (not what Cython generates) together with their tests."""
    program = directory / "native_test"
    sources = [*NATIVE.glob("*.c"), *TESTS.glob("*.c")]
    files = sorted(str(path) for path in sources if path != NATIVE / "core.c")
    compiler = os.environ.get("CC", "cc")
    includes = [f"-I{NATIVE}", f"-I{TESTS}"]
    command = [compiler, *FLAGS, *flags, *includes, *files, "-pthread", "-lrt", "-o", str(program)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert built.returncode == 0, built.stderr
    return program


def run(program: Path) -> subprocess.CompletedProcess[str]:
    """Runs the tests; without address randomisation if a sanitizer cannot live with it."""
    command = [str(program)]
    environment = os.environ | SANITIZER_OPTIONS
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment
    )
    if "unexpected memory mapping" in done.stderr and shutil.which("setarch"):
        command = ["setarch", "-R", *command]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment
        )
    return done


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_native_core_holds_its_promises(variant: str, tmp_path: Path) -> None:
    done = run(build(tmp_path, VARIANTS[variant]))
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stdout.rstrip().endswith("passed, 0 failed")
    assert "WARNING" not in done.stderr
