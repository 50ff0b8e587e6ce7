#include "durable.h"

#include "atomics.h"
#include "log.h"

/* Looks at lost ranges of which some do not verify: about 0.1 ms. */
#define LOST_LOOKS_MAX 100

static uint64_t mark_check(const bus_partition *control, uint64_t offset) {
    return ~bus_segment_seed(control->bus_id, control->topic_id, control->partition, offset);
}

/* Overwrites the older mark: a death in between leaves the newer one, random bytes leave none. */
void bus_publish_durable(bus_partition *control, uint64_t offset) {
    int older = control->marks[0].offset > control->marks[1].offset;
    if (control->marks[!older].check != mark_check(control, control->marks[!older].offset))
        older = !older; /* what does not verify was never published */
    bus_store_relaxed(&control->marks[older].offset, offset);
    bus_store_release(&control->marks[older].check, mark_check(control, offset));
    bus_store_release(&control->high_watermark, offset); /* pairs with the loads of who waits */
}

uint64_t bus_durable_end(const bus_partition *control) {
    uint64_t end = 0;
    for (int i = 0; i < 2; i++) {
        /* pairs with the store above */
        uint64_t check = bus_load_acquire(&control->marks[i].check);
        uint64_t offset = bus_load_relaxed(&control->marks[i].offset);
        if (offset > end && check == mark_check(control, offset)) end = offset;
    }
    return end;
}

static uint64_t lost_check(const bus_partition *control, uint64_t first, uint64_t end) {
    return ~bus_segment_seed(control->bus_id ^ first, control->topic_id, control->partition, end);
}

int bus_lost_range(const bus_partition *control, int index, uint64_t *first, uint64_t *end) {
    const bus_lost *range = &control->lost[index];
    uint64_t check = bus_load_acquire(&range->check); /* pairs with the store in write_lost */
    *first = bus_load_relaxed(&range->first);
    *end = bus_load_relaxed(&range->end);
    return check != 0 && *first < *end && check == lost_check(control, *first, *end);
}

static void write_lost(bus_partition *control, int index, uint64_t first, uint64_t end) {
    bus_lost *range = &control->lost[index];
    bus_store_relaxed(&range->first, first);
    bus_store_relaxed(&range->end, end);
    bus_store_release(&range->check, lost_check(control, first, end));
}

/* The last two places take turns once all others are taken, and swallow what lies between: while
 * one is rewritten the other still covers all that both did. */
void bus_note_lost(bus_partition *control, uint64_t first, uint64_t end) {
    uint64_t from[2] = {0, 0}, to[2] = {0, 0}, before, after;
    int there[2], last = BUS_LOST_RANGES - 2;
    for (int i = 0; i < last; i++) {
        if (!bus_lost_range(control, i, &before, &after)) {
            write_lost(control, i, first, end);
            return;
        }
        if (before <= first && end <= after) return; /* a replica that died has noted it before */
    }
    for (int i = 0; i < 2; i++)
        there[i] = bus_lost_range(control, last + i, &from[i], &to[i]);
    int newer = there[1] && (!there[0] || to[1] > to[0]);
    if (there[newer]) first = from[newer] < first ? from[newer] : first;
    if (there[newer] && to[newer] > end) end = to[newer];
    write_lost(control, last + (there[newer] ? !newer : 0), first, end);
}

/* A place that does not verify is being rewritten, and what it held is in the other of the last two
 * then; but that one may have been looked at before, or be rewritten next. So all are looked at
 * again, unless random bytes stand there, which never verify. */
int bus_is_lost(const bus_partition *control, uint64_t offset, bus_lost *found) {
    int torn = 1;
    for (int look = 0; look < LOST_LOOKS_MAX && torn; look++) {
        torn = 0;
        for (int i = 0; i < BUS_LOST_RANGES; i++) {
            if (bus_load_relaxed(&control->lost[i].check) == 0) continue;
            int verifies = bus_lost_range(control, i, &found->first, &found->end);
            if (verifies && found->first <= offset && offset < found->end) return 1;
            torn |= !verifies;
        }
        if (torn) bus_cpu_relax();
    }
    return 0;
}
