"""What `bootstrap_servers` means: which directory, or why not."""

import os
import re
import stat
from pathlib import Path
from typing import Final

from bus.errors import BusConfigurationError, UnsupportedVersionError

#: in a bus directory that is shared: where other users' programs connect to
GUESTS_SOCKET: Final = "guests.sock"

Address = str | os.PathLike[str] | None

_HOST_AND_PORT = re.compile(r"(\[[0-9a-fA-F:]+\]|[\w.-]+):\d{1,5}(,|$)")


def resolve_address(address: Address) -> Path:
    """The absolute path that `bootstrap_servers` means: a path, or bus:///absolute/path.

    None stands for $BUS_DIR, else `bus` in the XDG state directory. Raises
    UnsupportedVersionError for the address of a Kafka cluster, BusConfigurationError for
    anything that is no directory's name.
    """
    if address is None:
        return _default_path()
    if not isinstance(address, str | os.PathLike):
        raise BusConfigurationError(
            "bootstrap_servers must be the path of a directory, as str or Path, not"
            f" {type(address).__name__}"
        )
    text = os.fspath(address)
    if not isinstance(text, str) or not text or "\0" in text:
        raise BusConfigurationError(f"bootstrap_servers {text!r} is not the path of a directory")
    if isinstance(address, str):
        text = _without_scheme(text)
    return Path(os.path.realpath(Path(text).expanduser()))


def is_shared_by_another(address: Address) -> bool:
    """True if another user has a bus there, and shares it: then this process is a guest."""
    path = resolve_address(address)
    try:
        owner = os.stat(path).st_uid
        return owner != os.geteuid() and stat.S_ISSOCK(os.lstat(path / GUESTS_SOCKET).st_mode)
    except OSError:
        return False


def _default_path() -> Path:
    given = os.environ.get("BUS_DIR")
    if given:
        return resolve_address(given)
    state = os.environ.get("XDG_STATE_HOME", "")
    # the XDG specification: a relative path there is to be ignored
    base = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    return Path(os.path.realpath(base / "bus"))


def _without_scheme(text: str) -> str:
    scheme, mark, rest = text.partition("://")
    if mark and scheme == "bus":
        if not rest.startswith("/"):
            raise BusConfigurationError(f"{text!r}: a bus:// address is absolute: bus:///path")
        return rest
    if mark and scheme == "kafka":
        raise UnsupportedVersionError(
            f"{text!r}: Kafka clusters are not supported yet; give the path of a directory"
        )
    if mark:
        raise BusConfigurationError(f"{text!r}: use the path of a directory, or bus:///path")
    if _HOST_AND_PORT.match(text) and not os.path.isdir(text):
        raise BusConfigurationError(
            f"{text!r} looks like the address of a Kafka cluster, which is not supported yet;"
            f" for a directory of that name write {'./' + text!r}"
        )
    return text
