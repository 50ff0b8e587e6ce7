#include "reader.h"

#include <stddef.h>

/* Before `owner`: no walk over the readers, and so no reaping, may miss a place in use. */
static void raise_high(bus_partition *control, uint64_t at_least) {
    uint64_t high = bus_load_acquire(&control->readers_high);
    while (high < at_least && !bus_compare_exchange(&control->readers_high, &high, at_least)) {
    }
}

bus_reader *bus_reader_attach(bus_partition *control, int client, uint64_t generation,
                              uint32_t flags, uint64_t position) {
    for (int i = 0; i < BUS_READERS; i++) {
        bus_reader *reader = &control->readers[i];
        uint32_t nobody = 0;
        uint32_t claim = BUS_READER_CLAIMED | ((uint32_t)client + 1);
        if (bus_load32_relaxed(&reader->owner)) continue;
        raise_high(control, (uint64_t)i + 1);
        if (!bus_compare_exchange32(&reader->owner, &nobody, claim)) continue;
        reader->flags = flags;
        bus_store_relaxed(&reader->generation, generation);
        bus_store_relaxed(&reader->position, position);
        bus_store_relaxed(&reader->pins, 0);
        /* pairs with bus_reader_attached */
        bus_store32_release(&reader->owner, (uint32_t)client + 1);
        return reader;
    }
    return NULL;
}

int bus_readers_reap(bus_partition *control, int client, uint64_t generation, int claims) {
    int freed = 0;
    for (uint64_t i = 0; i < bus_readers_high(control); i++) {
        bus_reader *reader = &control->readers[i];
        uint32_t owner = bus_load32_acquire(&reader->owner);
        if ((owner & ~BUS_READER_CLAIMED) != (uint32_t)client + 1) continue;
        int claimed = (owner & BUS_READER_CLAIMED) != 0;
        if (claimed ? !claims : bus_load_relaxed(&reader->generation) != generation) continue;
        bus_store32_release(&reader->owner, 0);
        freed += !claimed;
    }
    return freed;
}

int bus_reader_has(const bus_partition *control, int client) {
    for (uint64_t i = 0; i < bus_readers_high(control); i++) {
        uint32_t owner = bus_load32_acquire(&control->readers[i].owner);
        if ((owner & ~BUS_READER_CLAIMED) == (uint32_t)client + 1) return 1;
    }
    return 0;
}
