"""Deaths of a forked process before each of its effects on what others can see (effects.c)."""

import ctypes
import os
import re
import signal
import subprocess
import traceback
from collections.abc import Callable
from pathlib import Path

_SOURCE = Path(__file__).parent / "effects.c"
_SHARED = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw-s ")
#: What a child ends with that was not killed: all went well, or something was wrong.
_DONE, _WRONG = 0, 9


def build(directory: Path) -> Path:
    """The compiled library."""
    library = directory / "effects.so"
    flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    command = [os.environ.get("CC", "cc"), *flags, str(_SOURCE), "-o", str(library)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert built.returncode == 0, built.stderr
    return library


def run(
    library: Path | None, death: int, prepare: Callable[[], object], work: Callable[..., object]
) -> tuple[str, int]:
    """Runs `work(prepare())` in a forked process; how it ended, and the effects of `work`.

    It is killed before effect number `death` of `work`; "killed" then. 0, or no library: it lives,
    and the answer is "done", or the traceback of what it raised.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = _WRONG
        try:
            os.close(reader)
            code = _child(library, death, prepare, work, writer)
        finally:
            os._exit(code)
    os.close(writer)
    text = b""
    while data := os.read(reader, 1 << 16):
        text += data
    os.close(reader)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status == -signal.SIGKILL:
        return "killed", death
    if status == _DONE:
        return "done", int(text)
    return text.decode() or f"ended with {status}", 0


def _child(
    library: Path | None,
    death: int,
    prepare: Callable[[], object],
    work: Callable[..., object],
    writer: int,
) -> int:
    try:
        thing = prepare()
        counted = 0
        if library is None:
            work(thing)
        else:
            lib = ctypes.CDLL(str(library))
            lib.effects_watch.argtypes = [ctypes.c_size_t, ctypes.c_size_t]
            for begin, end in _SHARED.findall(Path("/proc/self/maps").read_text()):
                lib.effects_watch(int(begin, 16), int(end, 16) - int(begin, 16))
            assert lib.effects_begin(death) == 0, "no handlers, or no seccomp filter"
            try:
                work(thing)
            finally:
                counted = lib.effects_end()
        os.write(writer, str(counted).encode())
    except BaseException:  # noqa: BLE001 - a child must not run on into the test
        os.write(writer, traceback.format_exc().encode())
        return _WRONG
    return _DONE
