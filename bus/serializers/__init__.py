"""Formats of values and keys, to be given to a producer and a consumer.

    bus.Producer(path, value_serializer="numpy")          bus.serializers.Numpy() is the same
    bus.Consumer("t", bootstrap_servers=path, value_deserializer="numpy")

| name        | class         | writes                      | reads                              |
|-------------|---------------|-----------------------------|------------------------------------|
| "json"      | `Json`        | text                        | new objects                        |
| "msgpack"   | `MessagePack` | MessagePack                 | new objects                        |
| "numpy"     | `Numpy`       | an array, copied once       | a read-only array in place         |
| "arrow"     | `Arrow`       | record batches, copied once | record batches in place            |
|             | `Pickle`      | any object; its buffers     | the object; its buffers in place,  |
|             |               | once                        | read-only                          |

What is read in place refers to the record's memory in the log, at an address that is a multiple of
64. It stays as it is for as long as it is held, whatever becomes of the consumer, the topic or the
broker. Holding much of it costs memory: see "Data in place" in docs/design.md.

`Pickle` has no name: whoever may write to the topic can make its reader run any code, so a program
has to say `bus.serializers.Pickle()` itself.

A format of one's own is any object with `serialize(value)`, which returns a bytes-like object or
`bus.Parts`, and `deserialize(data)`. If it says `in_place = True`, `data` is a read-only memoryview
of the value where it lies, else bytes. What is wrong with a value is a SerializationError; the
consumer adds topic, partition and offset to it.

numpy, pyarrow and msgpack are needed for their formats only: `pip install 'bus[numpy]'`,
`'bus[arrow]'`, `'bus[msgpack]'`. Without them, MissingLibraryError (an ImportError) says so.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from bus.serializers.arrow import Arrow as Arrow
    from bus.serializers.json import Json as Json
    from bus.serializers.msgpack import MessagePack as MessagePack
    from bus.serializers.numpy import Numpy as Numpy
    from bus.serializers.pickle import Pickle as Pickle

#: loaded when they are asked for: most of them need a library that most programs do not
_MODULES: Final = {
    "Arrow": "arrow",
    "Json": "json",
    "MessagePack": "msgpack",
    "Numpy": "numpy",
    "Pickle": "pickle",
}

__all__ = [*_MODULES]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'bus.serializers' has no attribute {name!r}")
    value = getattr(import_module(f"bus.serializers.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
