"""Ids of consumer groups, and lists of them in topic configs."""

from typing import Final

from bus.errors import BusConfigurationError, InvalidGroupIdError

#: bytes of a group id after percent-quoting: the quoted id and ".offsets" make a file name
GROUP_ID_QUOTED_BYTES_MAX: Final = 240
#: groups that the producers of one topic can wait for
LAG_GROUPS_MAX: Final = 16


def check_group_id(group: object) -> str:
    """The id, if a consumer group can have it; raises InvalidGroupIdError."""
    if not isinstance(group, str) or not group:
        raise InvalidGroupIdError(f"a group id must be a str of 1 character or more, not {group!r}")
    try:
        quoted = len(quote_group(group))
    except UnicodeEncodeError as error:
        raise InvalidGroupIdError(
            f"group id {group!r} is not valid text: {error.reason}"
        ) from error
    if quoted > GROUP_ID_QUOTED_BYTES_MAX:
        raise InvalidGroupIdError(
            f"group id {group[:60]!r}… needs {quoted} bytes in a file name, at most"
            f" {GROUP_ID_QUOTED_BYTES_MAX} fit; choose a shorter one (a character outside"
            " A-Z a-z 0-9 . _ - ~ counts three for each of its bytes)"
        )
    return group


def quote_group(group: str) -> str:
    """The group id as it stands in a file name; can hold no separator, and no zero byte."""
    from urllib.parse import quote  # here, because it would double the import time of this module

    return quote(group, safe="")


def parse_groups(text: str) -> tuple[str, ...]:
    """The group ids of a list with commas; a group whose id has a comma cannot be in one."""
    return tuple(name.strip() for name in text.split(",")) if text.strip() else ()


def check_groups(key: str, value: object) -> None:
    """Raise BusConfigurationError if the config `key` cannot be this list of groups."""
    if not isinstance(value, str):
        raise BusConfigurationError(
            f"topic config {key!r} must be group ids separated by commas, not {value!r}"
        )
    groups = parse_groups(value)
    for group in groups:
        try:
            check_group_id(group)
        except InvalidGroupIdError as error:
            raise BusConfigurationError(f"topic config {key!r} is {value!r}: {error}") from error
    if len(set(groups)) < len(groups) or len(groups) > LAG_GROUPS_MAX:
        raise BusConfigurationError(
            f"topic config {key!r} can name {LAG_GROUPS_MAX} groups, each of them once,"
            f" not {value!r}"
        )
