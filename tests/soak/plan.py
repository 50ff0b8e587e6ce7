"""What a round is made of, and what the nemesis does next: pure, and the same for the same seed."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

PRODUCER: Final = "producer"
CONSUMER: Final = "consumer"
REPLAYER: Final = "replayer"
CHURNER: Final = "churner"
OBSERVER: Final = "observer"

#: Segments of 1 MiB in a ring of four: rolls, spares and recycling all the time.
_SMALL: Final = {"segment.bytes": 1 << 20, "hot.bytes": 4 << 20}
#: Partitions and configs of the topics of each round. `shrinks` is for the judge alone.
TOPICS: Final[Mapping[str, tuple[int, Mapping[str, Any]]]] = {
    "plain": (2, _SMALL),
    "keeps": (2, _SMALL | {"retention.bytes": 1 << 20}),
    "shrinks": (1, _SMALL | {"shrinks": True}),
    "block": (1, _SMALL | {"durability": "memory", "overflow": "block"}),
    "drop": (1, _SMALL | {"durability": "memory", "overflow": "drop"}),
}
_FLOOD_BYTES_PER_S: Final = 1_500_000


@dataclass(frozen=True, slots=True)
class Member:
    """A worker of the fleet: which program, and with which orders."""

    role: str
    orders: dict[str, Any]
    #: the nemesis leaves it alone, as long as it does not take everything
    calm: bool = False


def topic_names(number: int) -> dict[str, str]:
    """The topics of a round, by what they are."""
    return {kind: f"r{number}-{kind}" for kind in TOPICS}


def crew(number: int, seed: int, *, bytes_per_s: int, small: bool) -> Iterator[Member]:
    """The workers of a round. A small one has fewer of each kind."""
    names = topic_names(number)
    everything = list(names.values())

    def orders(**more: Any) -> dict[str, Any]:
        return {"seed": seed, "topics": everything, **more}

    for acks in ("all", 1, "all", 0)[: 3 if small else 4]:
        yield Member(PRODUCER, orders(acks=acks, bytes_per_s=bytes_per_s))
    flood = orders(acks=1, bytes_per_s=_FLOOD_BYTES_PER_S)
    yield Member(PRODUCER, flood | {"topics": [names["drop"]]})
    yield from _readers(number, orders, small=small)
    yield Member(REPLAYER, orders(read_until="written"))
    if not small:
        yield Member(REPLAYER, orders(read_until="durable"))
    churn = {"prefix": f"r{number}-churn", "shrinks": names["shrinks"], "grows": names["plain"]}
    yield Member(CHURNER, orders(**churn))
    yield Member(OBSERVER, orders(), calm=True)


def _readers(number: int, orders: Any, *, small: bool) -> Iterator[Member]:
    common = {"read_until": "written", "iterates": False, "pattern": "", "auto_commit": True}
    common |= {"stays": False, "strategy": "sticky"}
    auto = common | {"group": f"r{number}-auto"}
    manual = common | {"group": f"r{number}-manual", "auto_commit": False, "strategy": "range"}
    durable = common | {"group": f"r{number}-durable", "read_until": "durable"}
    durable |= {"iterates": True, "pattern": f"^r{number}-", "strategy": "roundrobin"}
    calm = common | {"group": f"r{number}-calm"}
    for some in (auto, manual, durable)[: 2 if small else 3]:
        for _ in range(2):
            yield Member(CONSUMER, orders(**some))
    yield Member(CONSUMER, orders(**calm), calm=True)
    yield Member(CONSUMER, orders(**(calm | {"iterates": True, "stays": True})), calm=True)


# ------------------------------------------------------------------------------------ nemesis

KILL: Final = "kill"
SEVERAL: Final = "kill several"
EVERYTHING: Final = "kill everything"
PAUSE: Final = "stop and continue"
STOP: Final = "stop the bus"
FILL: Final = "fill the disk"
REBOOT: Final = "lose all memory"

#: Actions and their shares.
_ACTIONS: Final = {KILL: 50, SEVERAL: 8, EVERYTHING: 3, PAUSE: 30, STOP: 3, FILL: 4, REBOOT: 1}
_ROLES: Final = ("broker", "replica", PRODUCER, CONSUMER, REPLAYER, CHURNER)
_ROLE_SHARES: Final = (25, 30, 20, 20, 3, 2)
_STOPPED_S: Final = (0.05, 4.0)
_FULL_S: Final = (1.0, 6.0)
#: Seconds until the next action: from one store to the next, up to a broker's whole start.
_PAUSE_S: Final = (0.0, 1.5)


@dataclass(frozen=True, slots=True)
class Action:
    """What the nemesis does, to how many of which roles, for how long, and its pause after it."""

    name: str
    roles: tuple[str, ...]
    seconds: float
    pause_s: float


def actions(number: int, seed: int) -> Iterator[Action]:
    """What happens in a round, for ever."""
    dice = random.Random(f"{seed}-{number}-nemesis")
    while True:
        (name,) = dice.choices(list(_ACTIONS), list(_ACTIONS.values()))
        count = dice.randrange(2, 5) if name == SEVERAL else 1
        roles = tuple(dice.choices(_ROLES, _ROLE_SHARES, k=count))
        seconds = dice.uniform(*(_FULL_S if name == FILL else _STOPPED_S))
        yield Action(name, roles, seconds, dice.uniform(*_PAUSE_S))
