"""Fixtures: a bus where other users of the machine can get to."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.children import Fork, family
from tests.security.users import reachable_bus


@pytest.fixture(scope="module")
def open_dir() -> Iterator[Path]:
    """A bus directory, not made yet, whose path everybody may walk, unlike pytest's own.

    One for all tests of a module: most of them look at what is not allowed.
    """
    with tempfile.TemporaryDirectory(prefix="bus-test-") as name, reachable_bus(Path(name)) as path:
        yield path


@pytest.fixture
def fork() -> Iterator[Fork]:
    """Forks child processes that end with the test: see tests/children.py."""
    with family() as forking:
        yield forking
