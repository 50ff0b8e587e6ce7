"""A bus for one executor alone, in a temporary directory, gone with it.

Its broker is a child process that ends by itself, should the program be killed, as soon as the
workers have let go of the bus too, whatever lies in its topics. The directory that is left then, a
few small files, is removed by the next one that is made: it is named after the process, and a
process with that pid and start is no more. Had the broker been killed as well, one is started on
that directory to take down what it had in shared memory.
"""

import logging
import os
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import Final

from bus import Broker, BrokerConfig
from bus.errors import BrokerAlreadyRunningError, BusError
from workers.post import start_ticks

logger = logging.getLogger(__name__)

#: After the death of the program.
LINGER_S: Final = 2.0
#: A directory of a dead program is left alone for so long: its broker may be about to end.
LEFT_FOR_S: Final = 60.0
_CONFIG: Final = BrokerConfig(linger_s=LINGER_S, stays_for_memory=False)
_PREFIX: Final = "bus-executor"
_NAME: Final = re.compile(rf"{_PREFIX}-(\d+)-(\d+)-")


class PrivateBus:
    """A running bus. Attribute: `path`."""

    def __init__(self) -> None:
        """Starts it. Raises what Broker.start() raises."""
        place = Path(tempfile.gettempdir())
        sweep(place)
        pid = os.getpid()
        prefix = f"{_PREFIX}-{pid}-{start_ticks(pid)}-"
        self._home = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
        self.path = self._home / "bus"
        self._broker = Broker(self.path, config=_CONFIG, log_file=True)
        try:
            self._broker.start()
        except BaseException:
            shutil.rmtree(self._home)
            raise

    def close(self) -> None:
        """Stops the broker and removes the directory."""
        self._broker.stop()
        shutil.rmtree(self._home)


def sweep(place: Path) -> None:
    """Removes what programs left that were killed."""
    for home in place.glob(f"{_PREFIX}-*"):
        match = _NAME.match(home.name)
        if match is None or start_ticks(int(match[1])) == int(match[2]):
            continue
        try:
            found = home.stat()
        except FileNotFoundError:
            continue  # another program sweeps as well
        if found.st_uid == os.geteuid() and time.time() - found.st_mtime > LEFT_FOR_S:
            _remove(home)


def _remove(home: Path) -> None:
    try:
        if (home / "bus").exists():
            Broker(home / "bus", config=_CONFIG, log_file=True).start().stop()
    except BrokerAlreadyRunningError:
        return  # its last workers are about to end
    except (BusError, OSError):
        logger.exception("what a program that was killed had in %s cannot all be removed", home)
    shutil.rmtree(home, ignore_errors=True)
