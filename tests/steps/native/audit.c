#include "audit.h"

#include <inttypes.h>
#include <string.h>

#include "atomics.h"
#include "client.h"
#include "crc32c.h"
#include "durable.h"
#include "fault.h"
#include "lag.h"
#include "lag_words.h"
#include "lock.h"
#include "segment.h"

enum { LARGE = 400 * 1024, ROLLS = 9 };

/* Each number once; those up to the tail's without a hole; at most one prepared behind it. */
static int check_numbers(const bus_partition *control, uint64_t active, uint64_t *oldest) {
    uint64_t count = 0;
    *oldest = active;
    for (int slot = 0; slot < BUS_RING_SLOTS; slot++) {
        uint64_t number = control->ring_numbers[slot];
        if (number == 0 || number > active) continue;
        count++;
        if (number < *oldest) *oldest = number;
    }
    for (int slot = 0; slot < BUS_RING_SLOTS; slot++) {
        uint64_t number = control->ring_numbers[slot];
        if (number > active + 1) fault("segment %" PRIu64 " is far behind the tail's", number);
        if (number && !control->ring[slot].serial) fault("segment %" PRIu64 " has no file", number);
        if (number && bus_slot_of(control, number) != slot)
            fault("segment %" PRIu64 " is in two slots", number);
        for (int other = 0; other < slot; other++)
            if (control->ring[slot].serial &&
                control->ring[slot].serial == control->ring[other].serial)
                fault("slots %d and %d have the same file", other, slot);
    }
    if (bus_slot_of(control, active) < 0) fault("the tail's segment is in no slot");
    else if (count == active - *oldest + 1) return 1;
    else fault("the window has a hole: %" PRIu64 " segments from %" PRIu64, count, *oldest);
    return 0;
}

static void check_record(const uint8_t *base, uint64_t position, uint64_t offset) {
    const bus_frame *frame = (const bus_frame *)(base + position);
    const uint8_t *value = bus_frame_value(base + position, frame, position);
    if (!client_value_is(value, frame->value_length, offset))
        fault("the record with offset %" PRIu64 " has another one's bytes", offset);
}

static void check_records(const uint8_t *base, uint64_t limit, uint64_t offset) {
    for (uint64_t at = BUS_DATA_START; at < limit; offset++) {
        const bus_frame *frame = (const bus_frame *)(base + at);
        if ((frame->attributes & BUS_TYPE_MASK) == BUS_TYPE_END) return;
        check_record(base, at, offset);
        at += frame->size;
    }
}

/* An entry is a hint, but one that is there names a frame and its offset. */
static void check_index(const uint8_t *base, uint64_t limit) {
    const bus_segment *segment = (const bus_segment *)base;
    for (int i = 0; i < BUS_INDEX_ENTRIES; i++) {
        const bus_index_entry *entry = &segment->index[i];
        if (entry->position == 0) continue;
        uint64_t offset = segment->base_offset + entry->relative_offset;
        if (entry->position >= limit ||
            bus_frame_check(base, entry->position, limit, offset, segment->seed, 1))
            fault("index entry %d of segment %" PRIu64 " names no frame", i, segment->number);
    }
}

/* Returns the offset behind the segment's last record. */
static uint64_t check_segment(arena *arena, int slot, uint64_t tail, uint64_t expected) {
    const uint8_t *base = arena_segment(arena, slot);
    const bus_segment *segment = (const bus_segment *)base;
    uint64_t number = arena->control->ring_numbers[slot];
    int active = number == BUS_TAIL_NUMBER(tail);
    uint64_t limit = active ? BUS_TAIL_POSITION(tail) : arena->control->ring[slot].bytes;
    const char *error = bus_segment_header_error(segment, arena->control->ring[slot].bytes);
    if (error) {
        fault("segment %" PRIu64 ": %s", number, error);
        return expected;
    }
    if (segment->number != number) fault("segment %" PRIu64 " has another number", number);
    if (segment->base_offset != expected || arena->control->ring[slot].base_offset != expected)
        fault("segment %" PRIu64 " does not follow at %" PRIu64, number, expected);
    bus_scan scan;
    bus_scan_frames(base, BUS_DATA_START, limit, expected, segment->seed, &scan);
    if (scan.error) fault("segment %" PRIu64 ": %s", number, bus_frame_state_text(scan.error));
    if (scan.error) return expected;
    if (!active && !scan.sealed) fault("segment %" PRIu64 " has no end frame", number);
    if (!active && arena->control->ring[slot].end_offset != scan.next_offset)
        fault("the ring knows another end of segment %" PRIu64, number);
    if (active && scan.end_position != limit) fault("frames and tail end at different places");
    check_records(base, limit, expected);
    check_index(base, scan.end_position);
    return scan.next_offset;
}

/* What a program holds never changes under it. */
static void check_held(arena *arena) {
    if (!arena->held || !bus_load32_acquire(&arena->held->owner)) return;
    const uint8_t *base = arena_file(arena, arena->held_serial);
    if (bus_crc32c(0, base + BUS_DATA_START, BUS_MIB - BUS_DATA_START) != arena->held_crc)
        fault("a pinned segment changed under its reader");
}

extent audit_log(arena *arena) {
    const bus_partition *control = arena->control;
    extent found = {0};
    uint64_t tail = bus_load_acquire(&control->tail), oldest;
    if (control->ends[0].tail != tail && control->ends[1].tail != tail) {
        fault("no end belongs to the tail");
        return found;
    }
    bus_log_end(control, &found.end);
    if (!check_numbers(control, BUS_TAIL_NUMBER(tail), &oldest)) return found;
    found.start = control->ring[bus_slot_of(control, oldest)].base_offset;
    uint64_t next = found.start;
    for (uint64_t number = oldest; number <= BUS_TAIL_NUMBER(tail); number++)
        next = check_segment(arena, bus_slot_of(control, number), tail, next);
    if (next != found.end)
        fault("the end says %" PRIu64 ", the frames %" PRIu64, found.end, next);
    if (bus_hot_start(control) != found.start) fault("readers see another start of the hot log");
    check_held(arena);
    found.durable = bus_durable_end(control);
    if (found.durable > found.end) fault("more is durable than there is");
    return found;
}

static int append(arena *arena, uint32_t length) {
    uint64_t offset;
    bus_appended out;
    bus_log_end(arena->control, &offset);
    bus_record record = client_record(offset, 3, length);
    for (int tries = 0; tries < 4; tries++) {
        enum bus_append_status status = client_append(arena, &record, 1, &out);
        if (status == BUS_APPENDED) {
            if (out.last_offset != offset) fault("a survivor's record got another offset");
            return 1;
        }
        if (status == BUS_WAIT_SPARE) client_tend(arena, out.detail);
        else if (status == BUS_WAIT_REPLICA)
            bus_publish_durable(arena->control, offset);
        else if (status == BUS_WAIT_READER && client_reap(arena, ARENA_VICTIM) == 0)
            client_publish(arena, &arena->control->readers[out.detail], offset); /* it reads on */
        else if (status == BUS_WAIT_LAG) /* it looks: the consumers are there */
            bus_lag_set(arena->control, UINT64_MAX, UINT64_MAX, UINT64_MAX);
        else if (status == BUS_BROKEN) break;
    }
    fault("a survivor cannot append %u bytes", length);
    return 0;
}

/* One's next look sets the bit again; then the next waker must ring. */
static void check_wakes(arena *arena) {
    int posts = 0;
    bus_sleeper_set(&arena->control->data, ARENA_SLEEPER);
    while (sem_trywait(arena->bell) == 0) posts++;
    if (posts > 3) fault("the doorbell counts %d posts", posts);
    if (!append(arena, 8)) return;
    if (sem_trywait(arena->bell)) fault("a sleeper was not woken by the next record");
}

static void check_no_leak(arena *arena) {
    bus_partition *control = arena->control;
    int unused = 0;
    for (uint64_t i = 0; i < BUS_READERS; i++)
        if (control->readers[i].owner == ARENA_VICTIM + 1) fault("reader slot %d leaks", (int)i);
    for (int slot = 0; slot < BUS_RING_SLOTS; slot++) {
        if (!control->ring[slot].serial || control->ring_numbers[slot]) continue;
        unused++;
        if (bus_is_pinned(control, slot)) fault("file in slot %d is lost to a pin", slot);
    }
    if (unused > 1) fault("%d files of the ring are never used", unused);
    if (bus_ring_total(control) > control->hot_bytes) fault("the ring has outgrown hot_bytes");
}

void audit_survival(arena *arena) {
    arena->log = (bus_log){.control = arena->control, .active_slot = -1}; /* a process of its own */
    lag_words_check(arena->control);
    check_wakes(arena);
    audit_log(arena);
    client_reap(arena, ARENA_VICTIM);
    if (arena->held) client_detach(arena, arena->held);
    uint64_t until = arena->control->rolls + ROLLS;
    for (int i = 0; i < 4 * ROLLS && arena->control->rolls < until; i++)
        if (!append(arena, LARGE)) return;
    if (arena->control->rolls < until) fault("the ring does not go round");
    client_tend(arena, 0);
    audit_log(arena);
    check_no_leak(arena);
    if (bus_lock_owner(&arena->control->lock)) fault("the lock is still held");
}
