"""Programs that some tests need beside Python and a C compiler, and where they come from.

On Debian, as root, `python -m tests.tools` installs what is missing, before the tests' time limits
count; anywhere else it names the command that would, and the tests that need it fail with the same
words. Nothing is skipped in silence.
"""

import fcntl
import functools
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

#: Program → Debian package.
PACKAGES: Final = {
    "mkfs.ext4": "e2fsprogs",
    "losetup": "mount",
    "spin": "spin",
    "g++": "g++",
}
#: Header below /usr/include → Debian package.
HEADERS: Final = {
    "relacy/relacy.hpp": "relacy-dev",
}
#: What `tox -e arm` alone needs: `python -m tests.tools arm`.
ARM: Final = {
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu",
    "aarch64-linux-gnu-objdump": "binutils-aarch64-linux-gnu",
    "qemu-aarch64-static": "qemu-user-static",
}
#: CPython's own tests, of the version that runs; some builds come without.
CPYTHON: Final = "test.test_concurrent_futures"
CPYTHON_VERSION: Final = f"python{sys.version_info.major}.{sys.version_info.minor}"
INCLUDE: Final = Path("/usr/include")
INSTALL_TIMEOUT_S: Final = 300
_SEARCH: Final = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


class MissingToolError(AssertionError):
    """Raised when a program is not here and cannot be installed; says what would do it."""


@functools.cache
def tool(name: str) -> str:
    """The path of a program, which is installed first if need be. Raises MissingToolError."""
    return _found(name, (PACKAGES | ARM)[name], lambda: shutil.which(name, path=_SEARCH))


@functools.cache
def header(name: str) -> str:
    """The path of a C++ header, which is installed first if need be. Raises MissingToolError."""
    path = INCLUDE / name
    return _found(name, HEADERS[name], lambda: str(path) if path.exists() else None)


@functools.cache
def cpython_tests() -> Path | None:
    """The directory with CPython's own tests; None: Python has them. Raises MissingToolError."""
    if importlib.util.find_spec(CPYTHON) is not None:
        return None
    place = Path(f"/usr/lib/{CPYTHON_VERSION}/test")
    name = CPYTHON.rpartition(".")[2]

    def look() -> str | None:
        return str(place) if list(place.glob(f"{name}*")) else None

    return Path(_found(CPYTHON, f"lib{CPYTHON_VERSION}-testsuite", look))


def _found(name: str, package: str, look: Callable[[], str | None]) -> str:
    found = look()
    if found is None:
        with Path(tempfile.gettempdir(), "bus-tests-install.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two test processes must not call apt at once
            if look() is None:
                _install(name, package)
        found = look()
    if found is None:
        raise MissingToolError(f"package {package} brought no {name}")
    return found


def _install(name: str, package: str) -> None:
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        raise MissingToolError(
            f"this test needs {name}; install it, on Debian with: apt-get install {package}"
        )
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update", "-qq"], ["install", "-qq", "-y", package]):
        subprocess.run(
            [apt, *words],
            env=environment,
            check=True,
            capture_output=True,
            timeout=INSTALL_TIMEOUT_S,
        )


def main(groups: Sequence[str]) -> None:
    """Installs what is missing, or says what would."""
    wanted = [*PACKAGES, *(ARM if "arm" in groups else ())]
    for find, names in ((tool, wanted), (header, HEADERS)):
        for name in names:
            try:
                find(name)
            except MissingToolError as error:
                sys.stderr.write(f"{error}\n")
    try:
        cpython_tests()
    except MissingToolError as error:
        sys.stderr.write(f"{error}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
