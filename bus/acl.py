"""Who may read or write a topic of another user's bus: `acl.read` and `acl.write`.

    user:NAME  user:UID  group:NAME  group:GID  *        separated by commas; empty: the owner alone

A guest is who the kernel says that it is: uid, gid and supplementary groups of the process at the
other end of its socket, as they were when it connected. Nothing that a guest says about itself
counts, and its pid counts for nothing.
"""

import errno
import grp
import os
import pwd
import re
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bus.errors import BusConfigurationError

_ENTRY: Final = re.compile(r"(user|group):[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}\$?|\*", re.ASCII)
_CREDENTIALS: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid
#: since Linux 4.13; Python does not name it
_SO_PEERGROUPS: Final = 59
_GID_BYTES: Final = 4
#: what Python's getsockopt takes at most; whoever is in more groups is looked up by name
_GIDS_BYTES_MAX: Final = 1024


@dataclass(frozen=True)
class Peer:
    """A process at the other end of a unix socket, from the kernel."""

    pid: int
    uid: int
    gids: frozenset[int]

    @property
    def name(self) -> str:
        """The user for people: its name, or its number if it has none."""
        return user_name(self.uid)


def user_name(uid: int) -> str:
    """The name of a user, or its number as text if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def peer_of(sock: socket.socket) -> Peer:
    """Who is at the other end of a connected unix socket."""
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(data)
    return Peer(pid, uid, frozenset({gid, *_groups_of(sock, uid, gid)}))


def _groups_of(sock: socket.socket, uid: int, gid: int) -> Sequence[int]:
    try:
        packed = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GIDS_BYTES_MAX)
    except OSError as error:
        if error.errno not in (errno.ERANGE, errno.ENOPROTOOPT):
            raise
        return os.getgrouplist(user_name(uid), gid)
    return struct.unpack(f"{len(packed) // _GID_BYTES}I", packed)


def entries(text: str) -> list[str]:
    """The entries of an ACL. Raises BusConfigurationError for one that is malformed."""
    found = [entry.strip() for entry in text.split(",") if entry.strip()]
    for entry in found:
        if not _ENTRY.fullmatch(entry):
            raise BusConfigurationError(
                f"{entry!r} is no entry of an ACL; use user:NAME, user:UID, group:NAME, group:GID"
                " or *, separated by commas"
            )
    return found


def check_acl(key: str, value: object) -> None:
    """Raises BusConfigurationError for a value that is no ACL."""
    if not isinstance(value, str):
        raise BusConfigurationError(f"topic config {key!r} must be text, not {value!r}")
    try:
        entries(value)
    except BusConfigurationError as error:
        raise BusConfigurationError(f"topic config {key!r}: {error}") from error


def check_known(text: str) -> None:
    """Raises BusConfigurationError for a user or group that this machine does not know.

    A misspelt name would let nobody in, without a word.
    """
    for entry in entries(text):
        if entry != "*" and _number(entry) is None:
            kind, _, name = entry.partition(":")
            raise BusConfigurationError(
                f"there is no {kind} {name!r} on this machine; look with: getent"
                f" {'passwd' if kind == 'user' else 'group'} {name}"
            )


def allows(text: str, peer: Peer) -> bool:
    """True if the ACL names this peer."""
    for entry in entries(text):
        if entry == "*":
            return True
        number = _number(entry)
        if number is not None and entry.startswith("user:") and number == peer.uid:
            return True
        if number is not None and entry.startswith("group:") and number in peer.gids:
            return True
    return False


def _number(entry: str) -> int | None:
    """The uid or gid of an entry; None if this machine knows no such name."""
    kind, _, name = entry.partition(":")
    if name.isdigit():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid if kind == "user" else grp.getgrnam(name).gr_gid
    except KeyError:
        return None
