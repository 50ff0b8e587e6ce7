"""What must stay in a memory topic because a stage may yet have to look for it. Pure.

A record of which a worker has sent outputs and died is given to another one, which looks for them.
They must still be there then, although the next stage may have done them long ago. When the end of
the output was E, and no record from N on had been given to anybody, outputs of those stand at E or
behind. So once all below N is done, nobody looks below E any more.
"""

from collections import deque

from workers.pipeline.frontier import Places, thin


class Pin:
    """Of one stage: `keep_from` is where the outputs begin that may be looked for."""

    def __init__(self) -> None:
        self._seen: deque[tuple[Places, Places]] = deque()
        self.keep_from: Places = {}

    def look(self, ends: Places, given: Places, low: Places) -> Places:
        """`ends` of the output are read before `given`: the first records never given to anybody.

        Returns `keep_from`.
        """
        if not self._seen or self._seen[-1][0] != given:
            self._seen.append((given, ends))
            thin(self._seen)
        while self._seen and _is_below(self._seen[0][0], low):
            self.keep_from = self._seen.popleft()[1]
        return self.keep_from


def _is_below(given: Places, low: Places) -> bool:
    return all(low.get(place, 0) >= first for place, first in given.items())
