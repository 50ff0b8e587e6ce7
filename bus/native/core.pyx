# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: embedsignature=False, freethreading_compatible=False
"""The Cython shell over the C core: docs/design.md has the protocol, layout.h the bytes."""

include "declarations.pxi"
include "table.pxi"
include "hold.pxi"
include "bells.pxi"
include "page.pxi"
include "hotlog.pxi"
include "partition.pxi"
include "segments.pxi"
include "record.pxi"
include "place.pxi"
include "cursor.pxi"
include "guest.pxi"
include "consumer.pxi"
include "future.pxi"
include "producer.pxi"
