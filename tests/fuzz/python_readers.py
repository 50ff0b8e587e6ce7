"""Damages the files of a bus, again and again, and lets everything that reads them read them.

    python -m tests.fuzz.python_readers DIR SEED SECONDS [CORE]

CORE: a build of the compiled core to use instead of the installed one; under sanitizers. A reader
may raise errors of the bus, and nothing else; it may not hang, nor let memory grow. Prints the
number of executions of each reader; ends with a traceback and 1 at the first violation.
"""

import faulthandler
import importlib.util
import logging
import random
import resource
import sys
import time
from collections import Counter
from pathlib import Path

#: No single look at a damaged file takes longer, in seconds; on a busy machine, sanitized.
HANG_S = 60
GROWTH_KIB_MAX = 400_000
_CORE = "bus.native.core"


def use_core(path: str) -> None:
    """Every `import bus.native.core` from here on is the one in that file."""
    spec = importlib.util.spec_from_file_location(_CORE, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[_CORE] = module
    spec.loader.exec_module(module)


def main() -> int:
    """1 after a violation."""
    directory, seed, seconds, *core = sys.argv[1:]
    if core:
        use_core(core[0])
    from bus.errors import BusError
    from tests.fuzz.targets import Targets

    logging.disable()
    chance = random.Random(int(seed))
    counts: Counter[str] = Counter()
    targets = Targets(Path(directory), chance)
    peak = 0
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        name, damage, read = targets.choose()
        damage()
        faulthandler.dump_traceback_later(HANG_S, exit=True)
        try:
            read()
        except BusError:
            counts["typed errors"] += 1
        except BaseException:
            print(f"{name}, seed {seed}, execution {counts.total()}", file=sys.stderr)
            targets.keep(Path(directory) / "violation")
            raise
        finally:
            targets.heal()
        counts[name] += 1
        if counts.total() == 2000:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    faulthandler.cancel_dump_traceback_later()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak if peak else 0
    assert grown < GROWTH_KIB_MAX, f"memory grew by {grown} KiB"
    for name, count in sorted(counts.items()):
        print(f"{name}: {count}")
    targets.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
