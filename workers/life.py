"""The life of a pool's worker, as it is sent to its process."""

from functools import partial

from workers.logs import configure
from workers.order import Order
from workers.post import Post
from workers.serving import serve
from workers.serving_async import serve_async
from workers.serving_batches import serve_batches


def life_of(order: Order) -> "partial[None]":
    """A function of the worker's post alone; it can be pickled if the handler can."""
    return partial(_live, order=order)


def _live(post: Post, order: Order) -> None:
    if order.log_level is not None:
        configure(order.log_level, order.log_format)
    if order.batching.most:
        serve_batches(post, order)
    elif order.handler.is_async:
        serve_async(post, order)
    else:
        serve(post, order)
