"""Programs that some tests need beside Python and a C compiler, and where they come from.

On Debian, as root, `python -m tests.tools` installs what is missing, before the tests' time limits
count; anywhere else it names the command that would, and the tests that need it fail with the same
words. Nothing is skipped in silence.
"""

import fcntl
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

#: Program → Debian package.
PACKAGES: Final = {
    "mkfs.ext4": "e2fsprogs",
    "losetup": "mount",
    "spin": "spin",
}
INSTALL_TIMEOUT_S: Final = 300
_SEARCH: Final = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


class MissingToolError(AssertionError):
    """Raised when a program is not here and cannot be installed; says what would do it."""


@functools.cache
def tool(name: str) -> str:
    """The path of a program, which is installed first if need be. Raises MissingToolError."""
    found = shutil.which(name, path=_SEARCH)
    if found is None:
        package = PACKAGES[name]
        with Path(tempfile.gettempdir(), "bus-tests-install.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two test processes must not call apt at once
            if shutil.which(name, path=_SEARCH) is None:
                _install(name, package)
        found = shutil.which(name, path=_SEARCH)
    if found is None:
        raise MissingToolError(f"package {PACKAGES[name]} brought no program {name}")
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


def main() -> None:
    """Installs what is missing, or says what would."""
    for name in PACKAGES:
        try:
            tool(name)
        except MissingToolError as error:
            sys.stderr.write(f"{error}\n")


if __name__ == "__main__":
    main()
