"""How much of each model is explored: by `tox -e models`, and by the default tests."""

from typing import Final

#: Model → scopes that are explored one after the other; without an entry the model's own.
FULL: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "move": ((), ("MOVES=1", "DEATHS=2")),
}
#: What the default tests explore instead, to stay within seconds.
SMALL: Final[dict[str, tuple[str, ...]]] = {
    "append": ("APPENDS=2",),
    "attach": ("SLOTS=1",),
    "groups": ("DEATHS=1", "ZOMBIES=0"),
    "move": ("MOVES=1",),
    "offsets": ("COMMITS=2", "DEATHS=1"),
    "wake": ("DEATHS=0",),
}


def full(name: str) -> tuple[tuple[str, ...], ...]:
    """The scopes of a model in `tox -e models`; breakages are looked for in all of them."""
    return FULL.get(name, ((),))


def small(name: str) -> tuple[str, ...]:
    """The scope of a model in the default tests."""
    return SMALL.get(name, ())
