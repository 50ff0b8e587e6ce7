"""Limits as they are written on the command line."""

import re
from typing import Final

from workers.errors import LimitError
from workers.limits import Concurrency, Limit, Rate

_RATE: Final = re.compile(r"(\d+)/(\d+(?:\.\d+)?)?(s|m|h|d)")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def limits_of(rate: str | None, burst: int, at_once: int | None) -> list[Limit]:
    """The limits that the options ask for. Raises LimitError."""
    found: list[Limit] = []
    if rate is not None:
        found.append(rate_of(rate, burst))
    if at_once is not None:
        found.append(Concurrency(at_once))
    return found


def rate_of(text: str, burst: int = 1) -> Rate:
    """10/s, 90/m, 5/0.5s. Raises LimitError for anything else."""
    match = _RATE.fullmatch(text.strip())
    if match is None:
        raise LimitError(f"{text!r} is not a rate such as 10/s, 90/m or 5/0.5s")
    count, length, unit = match.groups()
    return Rate(int(count), per_s=float(length or 1) * _SECONDS[unit], burst=burst)
