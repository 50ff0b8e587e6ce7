"""Buses at rest, to be damaged."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.damage.rest_bus import RestingBus


@pytest.fixture(scope="module")
def resting() -> Iterator[Callable[[str], RestingBus]]:
    """A bus that came to rest in some way, put back before each trial; nothing is left of it."""
    root = Path(tempfile.mkdtemp(prefix="bus-rest-"))
    made: dict[str, RestingBus] = {}

    def build(how: str) -> RestingBus:
        if how not in made:
            made[how] = RestingBus.build(root / how, how)
        made[how].put_back()
        return made[how]

    try:
        yield build
    finally:
        for one in made.values():
            one.clear()
        shutil.rmtree(root)
