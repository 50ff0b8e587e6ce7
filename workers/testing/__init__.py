"""Tests of handlers, without processes, without a bus and without waiting: see `Runner`."""

from workers.attempts import Outcome
from workers.testing.attempts import Attempt, crash
from workers.testing.clock import FakeClock
from workers.testing.record import Record
from workers.testing.runner import Runner

__all__ = ["Attempt", "FakeClock", "Outcome", "Record", "Runner", "crash"]
