"""The core broken on purpose: what the sweep must notice, and on which path."""

from typing import Final

from tests.steps.native_sweep import Breakage

BREAKAGES: Final[dict[str, tuple[str, list[Breakage]]]] = {
    "the tail is stored before its end": (
        "append one record",
        [
            (
                "log.c",
                "    bus_fence_release(); /* the tail published before is seen before this end"
                " changes */\n",
                "    bus_store_release(&control->tail, tail);\n"
                '    __asm__ volatile("" ::: "memory");\n',
            )
        ],
    ),
    "the tail is stored before the frame": (
        "append one record",
        [
            (
                "log.c",
                "        bus_frame_write(at->base, position, size, record, at->next_offset,"
                " at->seed);\n",
                "",
            ),
            (
                "log.c",
                "    write_index(at, entries, indexed);\n    return status;",
                "    for (uint64_t i = first, p = at->tail & 0xffffffffu; i < out->done; i++) {\n"
                "        uint64_t bytes = bus_frame_bytes(p - position + p, &records[i]);\n"
                "        p = p - bytes;\n"
                "        bus_frame_write(at->base, p, bytes, &records[i], at->next_offset - 1,"
                " at->seed);\n    }\n"
                "    write_index(at, entries, indexed);\n    return status;",
            ),
        ],
    ),
    "an end is changed in place": (
        "append one record",
        [
            (
                "log.c",
                "    bus_end *end = &control->ends[!at->end];\n",
                "    bus_end *end = &control->ends[at->end];\n    at->end = !at->end;\n",
            )
        ],
    ),
    "an index entry counts before it is whole": (
        "append with an index entry",
        [
            (
                "log.c",
                "        entry->relative_offset = entries[i].relative_offset;\n",
                "        bus_store32_release(&entry->position, entries[i].position);\n"
                '        __asm__ volatile("" ::: "memory");\n'
                "        entry->relative_offset = entries[i].relative_offset;\n",
            )
        ],
    ),
    "a roll publishes before the old segment has its end frame": (
        "roll into a fresh spare",
        [
            (
                "log.c",
                "    bus_segment *sealed = (bus_segment *)at.base;\n",
                "    place was = at;\n"
                "    publish(control, &at, BUS_TAIL(number, BUS_DATA_START));\n"
                "    at = was;\n"
                "    bus_segment *sealed = (bus_segment *)at.base;\n",
            )
        ],
    ),
    "segments are retired in the order of their slots": (
        "retire before an offset",
        [
            (
                "log.c",
                "    int slot;\n    while ((slot = bus_ring_oldest(control)) >= 0 &&"
                " control->ring[slot].end_offset <= offset)\n"
                "        bus_store_release(&control->ring_numbers[slot], 0);\n",
                "    uint64_t active = BUS_TAIL_NUMBER(bus_load_relaxed(&control->tail));\n"
                "    for (int slot = 0; slot < BUS_RING_SLOTS; slot++)\n"
                "        if (control->ring_numbers[slot] && control->ring_numbers[slot] < active &&"
                " control->ring[slot].end_offset <= offset)\n"
                "            bus_store_release(&control->ring_numbers[slot], 0);\n",
            )
        ],
    ),
    "a reader counts before it can be found": (
        "attach a reader",
        [
            (
                "log.c",
                "        if (i >= high) bus_store_release(&control->readers_high, i + 1);\n",
                "",
            ),
            (
                "log.c",
                "        bus_store32_release(&reader->owner, (uint32_t)client + 1);\n"
                "        return",
                "        bus_store32_release(&reader->owner, (uint32_t)client + 1);\n"
                "        if (i >= high) bus_store_release(&control->readers_high, i + 1);\n"
                "        return",
            ),
        ],
    ),
    "a dead holder's lock is not repaired": (
        "take and give the lock",
        [
            (
                "lock.c",
                "void bus_lock_repaired(bus_mutex *lock) {"
                " pthread_mutex_consistent(&lock->mutex); }",
                "void bus_lock_repaired(bus_mutex *lock) { (void)lock; }",
            )
        ],
    ),
    "a gate is opened before the words that belong to it": (
        "write what consumers allow",
        [
            (
                "lag.c",
                "    bus_store_release(&control->lag_gate, BUS_LAG_CLOSED);\n"
                "    bus_store_release(&control->lag_from, from);\n",
                "    bus_store_release(&control->lag_gate, gate);\n"
                "    bus_store_release(&control->lag_from, from);\n",
            )
        ],
    ),
    "a gate is not closed while its words change": (
        "write what consumers allow",
        [
            (
                "lag.c",
                "    bus_store_release(&control->lag_gate, BUS_LAG_CLOSED);\n"
                "    bus_store_release(&control->lag_from, from);\n",
                "    bus_store_release(&control->lag_from, from);\n",
            )
        ],
    ),
    "a segment that is pinned is recycled": (
        "roll around a pin",
        [
            (
                "ring.c",
                "        if (!bus_is_pinned(control, slot)) best = slot;",
                "        best = slot;",
            )
        ],
    ),
}
