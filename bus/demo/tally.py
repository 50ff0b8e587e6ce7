"""Tally: the tokens of a file by type, and the sum over files, each counted once."""

import io
import tokenize
from collections import Counter
from collections.abc import Mapping

#: What the tokenizer raises for a file that is not valid Python: the library has some as tests.
_INVALID = (tokenize.TokenError, SyntaxError, UnicodeDecodeError)

Counts = Mapping[str, int]


def count_tokens(source: bytes) -> Counter[str]:
    """Tokens by the name of their type, "BYTES", and "INVALID" if it ends in an error.

    Depends on the bytes alone, so that two processes agree on a broken file too.
    """
    types: Counter[int] = Counter()
    counts: Counter[str] = Counter(BYTES=len(source))
    try:
        for token in tokenize.tokenize(io.BytesIO(source).readline):
            types[token.type] += 1
    except _INVALID:
        counts["INVALID"] = 1
    for kind, count in types.items():
        counts[tokenize.tok_name[kind]] += count
    return counts


class Tally:
    """The sum of the counts of many files. Delivered twice, a file still counts once.

    A killed worker's files come again, because it had not committed them: this is what makes
    at-least-once delivery exact.
    """

    def __init__(self) -> None:
        self.totals: Counter[str] = Counter()
        self.names: set[str] = set()
        #: files whose counts came more than once
        self.repeated = 0

    def add(self, name: str, counts: Counts) -> bool:
        """Add a file's counts; False, and nothing changed, if it was added before."""
        if name in self.names:
            self.repeated += 1
            return False
        self.names.add(name)
        self.totals.update(counts)
        return True
