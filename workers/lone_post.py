"""A post without a supervisor: for handlers that are called in a process of another kind."""

import os
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import cast

from workers.board import Board
from workers.post import Post, Seed


class _Deaf:
    """Stands for the pipe to a supervisor that is not there."""

    def send_bytes(self, data: bytes) -> None:
        """Nobody hears it."""


def lone_post(board: Board) -> Post:
    """The post of worker 0 of a private board."""
    seed = Seed(0, os.getpid(), 0, Path(), 0.0)
    return Post(seed, board, cast(Connection, _Deaf()))


def private_board(topics: Sequence[str], group: str, slots: int = 1) -> Board:
    """A board that nobody else sees."""
    return Board.private(1, slots, {"topics": list(topics), "group": group})
