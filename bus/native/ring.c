#include "ring.h"

#include "atomics.h"
#include "durable.h"
#include "reader.h"

static uint64_t at_least(uint64_t a, uint64_t b) { return a > b ? a : b; }
static uint64_t at_most(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* Between 4 and 32 segments fill the ring: enough to recycle, few enough for its slots. */
uint64_t bus_ring_target(const bus_partition *control) {
    uint64_t hot = bus_load_relaxed(&control->hot_bytes);
    uint64_t target = at_most(bus_load_relaxed(&control->segment_bytes), hot / 4);
    return at_least(at_least(target, hot / 32), BUS_MIB);
}

uint64_t bus_ring_total(const bus_partition *control) {
    uint64_t total = 0;
    for (int slot = 0; slot < BUS_RING_SLOTS; slot++)
        if (control->ring[slot].serial) total += control->ring[slot].bytes;
    return total;
}

static int holds_nothing(const bus_partition *control, int slot) {
    return control->ring[slot].serial && bus_load_acquire(&control->ring_numbers[slot]) == 0;
}

int bus_ring_available(const bus_partition *control, uint64_t need) {
    int best = -1;
    for (int slot = 0; slot < BUS_RING_SLOTS; slot++) {
        uint64_t bytes = control->ring[slot].bytes;
        if (!holds_nothing(control, slot) || bytes < need) continue;
        if (best >= 0 && bytes <= control->ring[best].bytes) continue;
        if (!bus_is_pinned(control, slot)) best = slot;
    }
    return best;
}

int bus_ring_oldest(const bus_partition *control) {
    uint64_t active = BUS_TAIL_NUMBER(bus_load_relaxed(&control->tail)), oldest = active;
    int found = -1;
    for (int slot = 0; slot < BUS_RING_SLOTS; slot++) {
        uint64_t number = bus_load_relaxed(&control->ring_numbers[slot]);
        if (number == 0 || number >= oldest) continue;
        oldest = number;
        found = slot;
    }
    return found;
}

/* Who still needs the segment in this slot: BUS_APPENDED when nobody does. */
static enum bus_append_status may_retire(const bus_partition *control, int slot,
                                         bus_appended *out) {
    uint64_t end = control->ring[slot].end_offset;
    uint32_t flags = bus_load32_relaxed(&control->flags);
    if (flags & BUS_FLAG_REPLICATED) /* beyond the end: then the end frame is on disk as well */
        return bus_durable_end(control) > end ? BUS_APPENDED : BUS_WAIT_REPLICA;
    if (flags & BUS_FLAG_DROP) return BUS_APPENDED;
    uint64_t high = bus_readers_high(control);
    for (uint64_t i = 0; i < high; i++) {
        const bus_reader *reader = &control->readers[i];
        if (!bus_reader_attached(reader)) continue;
        if (!(bus_load32_relaxed(&reader->flags) & 1)) continue;
        if (bus_load_acquire(&reader->position) >= end) continue;
        out->detail = i;
        return BUS_WAIT_READER;
    }
    return BUS_APPENDED;
}

/* Records that an attached reader had not read when overflow=drop overwrote them. */
static void count_dropped(bus_partition *control, const bus_ring_slot *old) {
    uint64_t high = bus_readers_high(control);
    for (uint64_t i = 0; i < high; i++) {
        uint64_t position = bus_load_acquire(&control->readers[i].position);
        if (bus_reader_attached(&control->readers[i]) && position < old->end_offset)
            control->dropped_records += old->end_offset - at_least(position, old->base_offset);
    }
}

static void retire(bus_partition *control, int slot) {
    uint32_t flags = bus_load32_relaxed(&control->flags);
    if (flags & BUS_FLAG_DROP && !(flags & BUS_FLAG_REPLICATED))
        count_dropped(control, &control->ring[slot]);
    bus_store_release(&control->ring_numbers[slot], 0);
    bus_fence_full(); /* pairs with the fence in bus_pin: a pin set before it is seen below */
}

/* While the ring may grow, the window keeps what it has and the broker adds a file. Once it is
 * full, the oldest segment gives up its place; small ones from the growth go to the broker. */
enum bus_append_status bus_ring_next(bus_partition *control, uint64_t need, int *slot,
                                     bus_appended *out) {
    uint64_t active = BUS_TAIL_NUMBER(bus_load_relaxed(&control->tail));
    *slot = bus_slot_of(control, active + 1); /* prepared by a roller that died */
    if (*slot >= 0 && control->ring[*slot].bytes >= need) return BUS_APPENDED;
    if (*slot >= 0) bus_store_release(&control->ring_numbers[*slot], 0);
    *slot = bus_ring_available(control, need);
    if (*slot >= 0) return BUS_APPENDED;
    uint64_t wanted = bus_ring_wanted(control, need);
    enum bus_append_status status = BUS_WAIT_SPARE;
    while (wanted == 0) {
        int old = bus_ring_oldest(control);
        if (old < 0) break;
        status = may_retire(control, old, out);
        if (status != BUS_APPENDED) break;
        retire(control, old);
        if (control->ring[old].bytes < bus_ring_target(control)) out->attention = 1;
        status = BUS_WAIT_SPARE;
        *slot = bus_ring_available(control, at_least(need, bus_ring_target(control)));
        if (*slot >= 0) return BUS_APPENDED;
    }
    *slot = bus_ring_available(control, need);
    if (*slot >= 0) return BUS_APPENDED;
    if (status == BUS_WAIT_SPARE) out->detail = at_least(wanted, need);
    if (status == BUS_WAIT_SPARE) out->attention = 1;
    return status;
}

uint64_t bus_ring_wanted(const bus_partition *control, uint64_t need) {
    uint64_t target = bus_ring_target(control), active = 0, total = 0;
    uint64_t number = BUS_TAIL_NUMBER(bus_load_acquire(&control->tail));
    int free_slot = 0;
    for (int slot = 0; slot < BUS_RING_SLOTS; slot++) {
        const bus_ring_slot *file = &control->ring[slot];
        if (!file->serial) { /* pins are per slot: one that is still set would hold a new file */
            free_slot |= !bus_is_pinned(control, slot);
            continue;
        }
        if (bus_load_relaxed(&control->ring_numbers[slot]) == number) active = file->bytes;
        if (!holds_nothing(control, slot) || !bus_is_pinned(control, slot)) total += file->bytes;
    }
    if (!free_slot || bus_ring_available(control, at_least(need, 1)) >= 0) return 0;
    uint64_t bytes = at_most(at_least(2 * active, BUS_MIB), target);
    bytes = at_least(bytes, bus_align(need, BUS_MIB));
    /* Whatever hot_bytes is: the active segment and one of the wanted size always have room. */
    uint64_t most = bytes + at_least(active, bytes);
    most = at_least(bus_load_relaxed(&control->hot_bytes), most);
    return total + bytes <= most ? bytes : 0;
}

int bus_ring_add(bus_partition *control, uint64_t serial, uint64_t bytes) {
    for (int slot = 0; slot < BUS_RING_SLOTS; slot++) {
        bus_ring_slot *file = &control->ring[slot];
        /* A pin belongs to the slot: a file placed under an old pin could never be used. */
        if (file->serial || bus_is_pinned(control, slot)) continue;
        file->bytes = bytes;
        file->base_offset = 0;
        file->end_offset = 0;
        bus_store_release(&control->ring_numbers[slot], 0);
        bus_store_release(&file->serial, serial); /* pairs with the load in map_slot */
        return 0;
    }
    return -1;
}

uint64_t bus_ring_drop_surplus(bus_partition *control, uint64_t need) {
    uint64_t total = bus_ring_total(control), hot = bus_load_relaxed(&control->hot_bytes);
    uint64_t target = bus_ring_target(control);
    int awaited = need ? bus_ring_available(control, need) : -1; /* a producer takes it soon */
    for (int slot = 0; slot < BUS_RING_SLOTS; slot++) {
        bus_ring_slot *file = &control->ring[slot];
        if (slot == awaited || !holds_nothing(control, slot)) continue;
        int small = total + target > hot && file->bytes < target;
        small |= file->bytes < need;
        if (!small && total <= hot && !bus_is_pinned(control, slot)) continue;
        uint64_t serial = file->serial;
        bus_store_release(&file->serial, 0);
        file->bytes = 0;
        return serial;
    }
    return 0;
}
