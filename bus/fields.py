"""C structs of the layout, read by name from bytes: for people's tools, never on the data path.

The offsets and sizes come from the compiled layout (`bus/native/layout.h`, through
`core.LAYOUT`); only the type of each field is said here. Nothing in this module orders memory: a
word that another process may be changing is read with `core.Table.load_acquire`.
"""

import struct
from collections.abc import Mapping

from bus.native.core import LAYOUT

Buffer = bytes | bytearray | memoryview


class Fields:
    """Some fields of one C struct, in the order of their offsets.

    `formats` maps a field's name to its `struct` code ("Q", "I", "q", "96s", …). An unknown
    field or an overlap raises KeyError or ValueError at import, not when bytes are read.
    """

    def __init__(self, name: str, formats: Mapping[str, str]) -> None:
        self.name = name
        self.size = LAYOUT[f"sizeof.{name}"]
        self.offsets = {field: LAYOUT[f"{name}.{field}"] for field in formats}
        self.names = tuple(sorted(formats, key=self.offsets.__getitem__))
        self._struct = struct.Struct(_padded_format(self.names, self.offsets, formats))

    def values(self, data: Buffer, at: int = 0) -> tuple[int, ...]:
        """The fields' values, in the order of `names`, of the struct at byte `at`."""
        return self._struct.unpack_from(data, at)

    def read(self, data: Buffer, at: int = 0) -> dict[str, int]:
        """The integer fields by name of the struct at byte `at`; struct.error if it is cut off."""
        return dict(zip(self.names, self.values(data, at), strict=True))


def _padded_format(
    names: tuple[str, ...], offsets: Mapping[str, int], formats: Mapping[str, str]
) -> str:
    parts = ["<"]
    position = 0
    for name in names:
        gap = offsets[name] - position
        if gap < 0:
            raise ValueError(f"field {name!r} overlaps the one before it")
        parts.append(f"{gap}x{formats[name]}")
        position = offsets[name] + struct.calcsize("<" + formats[name])
    return "".join(parts)
