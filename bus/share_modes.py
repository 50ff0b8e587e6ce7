"""The modes of share groups: whether records of one key are worked on one after the other.

A group has the mode of its first member, for good: it is kept with the group, in its file of
acknowledgements, in its members table, and in each of its ack tables.
"""

from typing import Final, Literal

from bus.errors import BusConfigurationError, InconsistentGroupProtocolError

Mode = Literal["queue", "keyed"]
MODES: Final[tuple[Mode, ...]] = ("queue", "keyed")
#: of a share group, in the flags of its members table; None: the next member says the mode
SHARE_FLAGS: Final[dict[Mode | None, int]] = {None: 2, "queue": 2 | 4, "keyed": 2 | 8}


def check_mode(group: str, known: Mode | None, wanted: Mode) -> None:
    """Raise InconsistentGroupProtocolError if the group has another mode than a member."""
    if known is not None and known != wanted:
        raise InconsistentGroupProtocolError(
            f"share group {group!r} has mode {known!r}, and this member asks for mode {wanted!r}:"
            f" use mode={known!r} or another group_id, or delete the group with: bus groups delete"
        )


def named_mode(name: object) -> Mode:
    """The mode of that name. Raises BusConfigurationError if there is none."""
    for mode in MODES:
        if mode == name:
            return mode
    raise BusConfigurationError(f"mode is {name!r}; use one of {list(MODES)}")


def flagged_mode(flags: int) -> Mode | None:
    """The mode that these flags of a members table say."""
    return next((mode for mode in MODES if flags & SHARE_FLAGS[mode] == SHARE_FLAGS[mode]), None)
