"""Every model holds in all its states, and breaking any one step of its protocol is found."""

import os
from pathlib import Path

import pytest

from tests.models.spin import breakages, explore, names

#: `tox -e models` breaks every step, and explores the models in their full scope.
ALL = os.environ.get("BUS_MODELS") == "all"
#: What is explored in a smaller scope to stay within seconds.
SMALLER = (
    {}
    if ALL
    else {
        "append": ["APPENDS=2"],
        "attach": ["SLOTS=1"],
        "groups": ["DEATHS=1", "ZOMBIES=0"],
        "offsets": ["COMMITS=2", "DEATHS=1"],
        "move": ["MOVES=1"],
        "wake": ["DEATHS=0"],
    }
)
#: One breakage of each model shows that the check can fail.
BREAKAGES = [
    (name, breakage) for name in names() for breakage in breakages(name)[: None if ALL else 1]
]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", names())
def test_a_model_holds_in_every_state_that_it_can_reach(name: str, tmp_path: Path) -> None:
    found = explore(name, tmp_path, *SMALLER.get(name, []))
    assert found.first_error == ""
    assert found.errors == 0
    assert found.is_complete
    if name not in SMALLER:
        assert found.unreached == ()


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "breakage"), BREAKAGES)
def test_breaking_one_step_of_a_protocol_is_found(name: str, breakage: str, tmp_path: Path) -> None:
    found = explore(name, tmp_path, breakage, *SMALLER.get(name, []))
    assert found.errors > 0, f"{name} holds with {breakage}: it does not need that step"


@pytest.mark.parametrize("name", names())
def test_a_model_says_what_it_leaves_out_and_how_it_can_be_broken(name: str) -> None:
    text = (Path(__file__).parent / f"{name}.pml").read_text()
    assert "docs/design.md" in text
    assert "Left out:" in text
    assert len(breakages(name)) >= 3
