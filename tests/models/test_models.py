"""Every model holds in all its states, and breaking one step of its protocol is found.

The scopes are small here, and one step of each model is broken; `tox -e models` explores the full
ones, and breaks every step (docs/models.md).
"""

from pathlib import Path

import pytest

from tests.models.scopes import small
from tests.models.spin import breakages, explore, model, names

#: One breakage of each model that is found soon shows that the check can fail.
BROKEN = {
    "append": "BREAK_RELEASE_OF_TAIL",
    "attach": "BREAK_CLAIMED_BIT",
    "groups": "BREAK_CALLBACK_FIRST",
    "move": "BREAK_LOOK_BEHIND",
    "offsets": "BREAK_CHECKSUM",
    "recycle": "BREAK_FENCE_OF_READER",
    "replica": "BREAK_SYNC_BEFORE_WATERMARK",
    "wake": "BREAK_FENCE_OF_SLEEPER",
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", names())
def test_a_model_holds_in_every_state_that_it_can_reach(name: str, tmp_path: Path) -> None:
    found = explore(name, tmp_path, *small(name))
    assert found.first_error == ""
    assert found.errors == 0
    assert found.is_complete


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", names())
def test_breaking_one_step_of_a_protocol_is_found(name: str, tmp_path: Path) -> None:
    broken = BROKEN[name]
    assert broken in breakages(name)
    assert explore(name, tmp_path, broken, *small(name)).errors > 0, f"{name} holds with {broken}"


@pytest.mark.parametrize("name", names())
def test_a_model_says_what_it_leaves_out_and_how_it_can_be_broken(name: str) -> None:
    text = model(name).read_text()
    assert "docs/design.md" in text
    assert "Left out:" in text
    assert len(breakages(name)) >= 3
