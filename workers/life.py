"""The life of a pool's worker, as it is sent to its process."""

import logging
from functools import partial
from typing import Final

from workers.order import Order
from workers.post import Post
from workers.serving import serve
from workers.serving_async import serve_async

#: What the log of a worker, and of `python -m workers run`, looks like.
LOG_FORMAT: Final = "%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"


def life_of(order: Order) -> "partial[None]":
    """A function of the worker's post alone; it can be pickled if the handler can."""
    return partial(_live, order=order)


def _live(post: Post, order: Order) -> None:
    if order.log_level is not None:
        logging.basicConfig(level=order.log_level, format=LOG_FORMAT)
    if order.handler.is_async:
        serve_async(post, order)
    else:
        serve(post, order)
