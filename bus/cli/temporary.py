"""A bus for one command: its own in a temporary directory, or a given one left as it is."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bus.address import resolve_address
from bus.directory import BusDirectory
from bus.errors import BrokerNotRunningError, DirectoryError
from bus.shutdown import shut_down


@contextmanager
def own_or_given_bus(directory: str | None, name: str) -> Iterator[Path]:
    """The directory of the bus to use. An own one is stopped and removed afterwards."""
    if directory is not None:
        yield resolve_address(directory)
        return
    path = Path(tempfile.mkdtemp(prefix=f"bus-{name}-"))
    try:
        yield path
    finally:
        # DirectoryError: interrupted before there was a bus in it
        with suppress(BrokerNotRunningError, DirectoryError), BusDirectory.open(path) as opened:
            shut_down(opened)
        shutil.rmtree(path)
