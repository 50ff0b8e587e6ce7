"""What happens in a round: pure, and the same for the same seed."""

import random
from dataclasses import dataclass

from tests.faults.processes import BROKER, MAIN, REPLICA, WORKER

#: The topics are kept and compared afterwards; the demo's own bus ends with it; the main is killed.
KEPT, OWN, ORPHANED = "kept", "own", "orphaned"
#: everything at once
ALL = "all"

_KINDS = (KEPT, ORPHANED, OWN, KEPT, KEPT)
_ROLES = (BROKER, REPLICA, WORKER)
#: Chances of one, two, three and four kills in one run.
_KILLS = (1, 1, 1, 2, 2, 3, 4)
#: Share of kills while the bus comes into being, before any record is durable.
_EARLY = 0.12
#: A start takes about so long: early kills fall somewhere in it. Seconds.
_START_S = 1.2
#: Most seconds between the record that triggers a kill and the kill.
_JITTER_S = 0.03


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill: of whom, and when.

    after: share of all records that are durable by then, 0 to 1; 0: none is waited for
    delay_s: after that, or after the start of the run when `after` is 0
    """

    role: str
    after: float
    delay_s: float
    choice: float

    def pick(self, count: int) -> int:
        """Which one of so many processes of that role."""
        return int(self.choice * count)


@dataclass(frozen=True, slots=True)
class Round:
    """One run of the demo and the kills in it, in order."""

    number: int
    seed: int
    kind: str
    kills: tuple[Kill, ...]

    def __str__(self) -> str:
        kills = ", ".join(
            f"{kill.role} at {kill.after:.0%} + {kill.delay_s * 1000:.0f} ms" for kill in self.kills
        )
        return f"round {self.number} (seed {self.seed}, {self.kind}): {kills}"


def _kill(dice: random.Random, role: str) -> Kill:
    if dice.random() < _EARLY:
        return Kill(role, 0.0, dice.uniform(0, _START_S), dice.random())
    return Kill(role, dice.random(), dice.uniform(0, _JITTER_S), dice.random())


def may_come_first(kill: Kill, number: int) -> bool:
    """Whether a kill may precede the main's: a broker started meanwhile then lingers for 30 s.

    The first rounds, which every run of the tests makes, do without.
    """
    return kill.role != BROKER or number >= len(_KINDS)


def plan_round(seed: int, number: int) -> Round:
    """Round `number` of the campaign with that seed."""
    dice = random.Random(f"{seed}-{number}")
    kind = _KINDS[number % len(_KINDS)]
    kills = [_kill(dice, dice.choice(_ROLES)) for _ in range(dice.choice(_KILLS))]
    kills.sort(key=lambda kill: (kill.after, kill.delay_s))
    if kind == ORPHANED:
        last = _kill(dice, dice.choice((MAIN, MAIN, ALL)))
        earlier = [
            kill for kill in kills if kill.after < last.after and may_come_first(kill, number)
        ]
        kills = [*earlier[:1], last]
    return Round(number, dice.randrange(1 << 30), kind, tuple(kills))
