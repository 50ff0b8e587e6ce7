"""A parameter sweep in worker processes: one large array for all tasks, one number from each.

The array is written into shared memory once for each task and read in place there. One set of
parameters makes its worker die; it is told by name, and all others are done.
"""

import os
import signal
from itertools import product
from typing import TypeAlias

import numpy as np

from workers import Executor
from workers.errors import WorkerDied

DAYS = 2_000
Prices: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.float64]]"


def profit(prices: Prices, fast: int, slow: int) -> float:
    """Of holding whenever the mean of the last `fast` days is above that of the last `slow`."""
    if slow == 90:
        os.kill(os.getpid(), signal.SIGKILL)  # as a bug in native code, or want of memory, would
    means = {days: np.convolve(prices, np.ones(days) / days, "valid") for days in (fast, slow)}
    holding = means[fast][slow - fast :] > means[slow]
    return float(np.sum(np.diff(prices)[slow - 1 :] * holding[:-1]))


def main() -> None:
    """Tries all pairs, and prints the best one and what could not be tried."""
    prices = 100 + np.random.default_rng(1).normal(0, 1, DAYS).cumsum()
    with Executor(2) as executor:
        futures = {
            pair: executor.submit(profit, prices, *pair)
            for pair in product((5, 10, 20), (40, 60, 90))
        }
        profits = {}
        for pair, future in futures.items():
            try:
                profits[pair] = future.result(timeout=40)
            except WorkerDied as error:
                print(f"{pair} was not tried: signal {error.signal}")
    best = max(profits, key=profits.__getitem__)
    print(f"the best of {len(profits)} pairs is {best}")


if __name__ == "__main__":
    main()
