#include "log.h"

#include <time.h>

#include "atomics.h"
#include "crc32c.h"
#include "reader.h"
#include "ring.h"

/* Index entries that one batch writes after its publication; more are left out (it is a cache). */
#define INDEX_PER_BATCH 16
/* Looks at a tail that stands still before its lack of an end counts as damage: a few ms. */
#define LOOKS_MAX 100000

typedef struct {
    uint64_t tail, next_offset;
    int64_t max_timestamp;
    int end;  /* which of the two ends carries the current tail */
    int slot;
    uint8_t *base;
    uint64_t bytes, seed;
} place; /* where the next frame goes */

int bus_slot_of(const bus_partition *control, uint64_t number) {
    for (int slot = 0; slot < BUS_RING_SLOTS; slot++)
        if (bus_load_acquire(&control->ring_numbers[slot]) == number) return slot;
    return -1;
}

uint64_t bus_log_end(const bus_partition *control, uint64_t *next_offset) {
    for (int look = 0; look < LOOKS_MAX; look++) {
        uint64_t tail = bus_load_acquire(&control->tail); /* pairs with publish */
        int which = bus_load_acquire(&control->ends[0].tail) == tail ? 0 : 1;
        const bus_end *end = &control->ends[which];
        uint64_t owner = bus_load_acquire(&end->tail);
        *next_offset = bus_load_acquire(&end->next_offset);
        bus_fence_acquire();
        if (owner == tail && bus_load_relaxed(&control->tail) == tail) return tail;
        if (bus_load_relaxed(&control->tail) != tail) look = 0; /* it moved: that is no fault */
        bus_cpu_relax();
    }
    *next_offset = 0;
    return 0;
}

uint64_t bus_hot_start(const bus_partition *control) {
    uint64_t start;
    bus_log_end(control, &start);
    for (int slot = 0; slot < BUS_RING_SLOTS; slot++) {
        uint64_t number = bus_load_acquire(&control->ring_numbers[slot]);
        uint64_t base = bus_load_acquire(&control->ring[slot].base_offset);
        if (number && base < start) start = base;
    }
    return start;
}

uint64_t bus_segment_seed(uint64_t bus_id, uint64_t topic_id, uint32_t partition, uint64_t number) {
    uint64_t identity[4] = {bus_id, topic_id, partition, number};
    uint64_t low = bus_crc32c(0, identity, sizeof identity);
    return (uint64_t)bus_crc32c((uint32_t)low ^ 0x5eed5eedu, identity, sizeof identity) << 32 | low;
}

void bus_segment_begin(bus_segment *segment, const bus_partition *control, uint64_t number,
                       uint64_t base_offset, uint64_t previous_end, uint64_t bytes) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    memset(segment, 0, sizeof *segment);
    segment->magic = BUS_MAGIC_SEGMENT;
    segment->version = BUS_LAYOUT_VERSION;
    segment->bus_id = control->bus_id;
    segment->topic_id = control->topic_id;
    segment->partition = control->partition;
    segment->data_start = BUS_DATA_START;
    segment->number = number;
    segment->base_offset = base_offset;
    segment->previous_end = previous_end;
    segment->bytes = bytes;
    segment->created_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    segment->seed =
        bus_segment_seed(control->bus_id, control->topic_id, control->partition, number);
    segment->header_crc =
        bus_crc32c(0, (const uint8_t *)segment + 16, offsetof(bus_segment, reserved) - 16);
    segment->max_timestamp = INT64_MIN;
}

/* Finds the active segment, and refuses to go on if shared memory contradicts itself. */
static enum bus_append_status find_place(bus_log *log, place *at, bus_appended *out) {
    bus_partition *control = log->control;
    at->tail = bus_load_relaxed(&control->tail);
    at->end = control->ends[0].tail == at->tail ? 0 : 1;
    if (control->ends[at->end].tail != at->tail) return BUS_BROKEN;
    at->next_offset = control->ends[at->end].next_offset;
    at->max_timestamp = control->ends[at->end].max_timestamp;
    at->slot = log->active_slot;
    if (at->slot < 0 || control->ring_numbers[at->slot] != BUS_TAIL_NUMBER(at->tail)) {
        at->slot = bus_slot_of(control, BUS_TAIL_NUMBER(at->tail));
        if (at->slot < 0) return BUS_BROKEN;
        log->active_slot = at->slot;
    }
    if (log->map_serials[at->slot] != control->ring[at->slot].serial) {
        out->detail = (uint64_t)at->slot;
        return BUS_NEED_MAP;
    }
    at->base = log->maps[at->slot];
    at->bytes = log->map_bytes[at->slot];
    uint64_t number = BUS_TAIL_NUMBER(at->tail);
    if (log->seed_number != number) {
        log->seed =
            bus_segment_seed(control->bus_id, control->topic_id, control->partition, number);
        log->seed_number = number;
    }
    at->seed = log->seed;
    uint64_t position = BUS_TAIL_POSITION(at->tail);
    if (position < BUS_DATA_START || position % BUS_FRAME_ALIGN) return BUS_BROKEN;
    if (position + sizeof(bus_frame) > at->bytes) return BUS_BROKEN;
    return BUS_APPENDED;
}

/* The handler of the guard runs in this thread, so a fence for the compiler is enough. */
static int is_marked(const bus_log *log, int slot) {
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    return log->map_marks[slot] && bus_load32_relaxed(log->map_marks[slot]);
}

/* Whether the file in the active slot is the segment that it must be: neither truncated, nor
 * replaced, nor with another header. What is appended to any other would never be found. */
static int is_whole(const bus_log *log, const place *at) {
    const bus_segment *segment = (const bus_segment *)at->base;
    return bus_load_relaxed(&segment->number) == BUS_TAIL_NUMBER(at->tail) &&
           bus_load_relaxed(&segment->seed) == at->seed && !is_marked(log, at->slot);
}

/* The one publishing store. Its pair is the acquire-load of the tail in every reader. */
static void publish(bus_partition *control, place *at, uint64_t tail) {
    bus_end *end = &control->ends[!at->end];
    bus_fence_release(); /* the tail published before is seen before this end changes */
    bus_store_relaxed(&end->tail, tail);
    bus_store_relaxed(&end->next_offset, at->next_offset);
    __atomic_store_n(&end->max_timestamp, at->max_timestamp, __ATOMIC_RELAXED);
    bus_store_release(&control->tail, tail);
    at->end = !at->end;
    at->tail = tail;
}

static void write_index(place *at, const bus_index_entry *entries, int count) {
    bus_segment *segment = (bus_segment *)at->base;
    uint64_t interval = at->bytes / BUS_INDEX_ENTRIES;
    for (int i = 0; i < count; i++) {
        uint64_t bucket = entries[i].position / interval; /* the last bytes may have no entry */
        if (bucket >= BUS_INDEX_ENTRIES) continue;
        bus_index_entry *entry = &segment->index[bucket];
        if (entry->position) continue;
        entry->relative_offset = entries[i].relative_offset;
        entry->max_timestamp = entries[i].max_timestamp;
        bus_store32_release(&entry->position, entries[i].position);
    }
}

static int64_t realtime_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Bytes of the smallest segment that holds the record. */
static uint64_t room_for(const bus_record *record) {
    return bus_frame_bytes(BUS_DATA_START, record) + BUS_DATA_START + BUS_VALUE_ALIGN +
           sizeof(bus_frame);
}

/* Whether consumers must be looked at before this record. The words are hints that whoever waits
 * works out anew (bus/lag_gate.py): whatever they hold, the log stays what it is. */
static int is_held_up(const bus_partition *control, uint64_t gate, uint64_t offset,
                      uint64_t place) {
    return offset >= gate - 1 || place >= bus_load_relaxed(&control->lag_tail);
}

/* Copies as many records as the active segment holds and publishes them all at once. */
static enum bus_append_status fill(bus_log *log, place *at, bus_record *records, uint64_t count,
                                   bus_appended *out, uint64_t *need) {
    bus_partition *control = log->control;
    bus_index_entry entries[INDEX_PER_BATCH];
    uint64_t interval = at->bytes / BUS_INDEX_ENTRIES, position = BUS_TAIL_POSITION(at->tail);
    uint64_t limit = at->bytes - sizeof(bus_frame), first = out->done, last_bucket = UINT64_MAX;
    uint64_t base_offset = control->ring[at->slot].base_offset;
    uint64_t number = BUS_TAIL_NUMBER(at->tail), gate = bus_load_relaxed(&control->lag_gate);
    int indexed = 0;
    enum bus_append_status status = BUS_APPENDED;
    *need = 0;
    for (; out->done < count; out->done++) {
        bus_record *record = &records[out->done];
        uint64_t size = bus_frame_bytes(position, record);
        if (gate && is_held_up(control, gate, at->next_offset, BUS_TAIL(number, position))) {
            status = BUS_WAIT_LAG;
            break;
        }
        if (position + size > limit) {
            *need = room_for(record);
            break;
        }
        if (at->next_offset >= bus_load_relaxed(&control->offset_limit)) {
            status = BUS_WAIT_OFFSETS;
            break;
        }
        if (record->attributes & BUS_ATTR_APPEND_TIME) record->timestamp = realtime_ns();
        bus_frame_write(at->base, position, size, record, at->next_offset, at->seed);
        if (position / interval != last_bucket && indexed < INDEX_PER_BATCH) {
            last_bucket = position / interval;
            entries[indexed++] = (bus_index_entry){
                .position = (uint32_t)position,
                .relative_offset = (uint32_t)(at->next_offset - base_offset),
                .max_timestamp = at->max_timestamp};
        }
        if (record->timestamp > at->max_timestamp) at->max_timestamp = record->timestamp;
        out->last_timestamp = record->timestamp;
        out->last_offset = at->next_offset++;
        position += size;
    }
    if (out->done == first) return status;
    if (is_marked(log, at->slot)) { /* written into a page that the file does not have */
        out->done = first;
        return BUS_TORN;
    }
    publish(control, at, BUS_TAIL(number, position));
    write_index(at, entries, indexed);
    return status;
}

/* Past half of a segment the broker gets time to make the next file before it is needed. */
static void ask_ahead(bus_log *log, const place *at, bus_appended *out) {
    uint64_t number = BUS_TAIL_NUMBER(at->tail);
    if (BUS_TAIL_POSITION(at->tail) < at->bytes / 2 || log->attention_number == number) return;
    log->attention_number = number;
    if (bus_ring_wanted(log->control, 0)) out->attention = 1;
}

enum bus_append_status bus_log_append(bus_log *log, bus_record *records, uint64_t count,
                                      bus_appended *out) {
    if (bus_load32_relaxed(&log->control->flags) & BUS_FLAG_DELETED) return BUS_TOPIC_DELETED;
    for (;;) {
        place at;
        uint64_t need;
        enum bus_append_status status = find_place(log, &at, out);
        if (status != BUS_APPENDED) return status;
        if (is_whole(log, &at)) {
            status = fill(log, &at, records, count, out, &need);
            ask_ahead(log, &at, out);
            if (status == BUS_TORN) continue;
            if (status != BUS_APPENDED || need == 0) return status;
        } else { /* no further record goes into it; what it held is the replica's to find */
            need = room_for(&records[out->done]);
            log->control->segments_given_up++;
        }
        status = bus_log_roll(log, need, out);
        if (status != BUS_APPENDED) return status;
    }
}

/* Where the records before a new segment end. One that is sealed without a record gets no durable
 * file, so the next one must carry on the known gap in front of it, or nothing would tell of it. */
static uint64_t end_before(const bus_segment *sealed, uint64_t next_offset) {
    return sealed->base_offset == next_offset ? sealed->previous_end : next_offset;
}

static void seal(place *at, uint64_t next_number) {
    bus_segment *sealed = (bus_segment *)at->base;
    bus_frame_write_end(at->base, BUS_TAIL_POSITION(at->tail), at->next_offset, next_number,
                        at->seed);
    sealed->end_position = BUS_TAIL_POSITION(at->tail);
    sealed->max_timestamp = at->max_timestamp;
    bus_store_release(&sealed->end_offset, at->next_offset);
}

/* Seals the active segment and opens the next. Until the tail moves, nothing of this is seen; a
 * roller that dies leaves a prepared slot with number tail+1, which the next roller takes over. */
enum bus_append_status bus_log_roll(bus_log *log, uint64_t need, bus_appended *out) {
    bus_partition *control = log->control;
    place at;
    int slot;
    bus_ring_slot *next, *old;
    enum bus_append_status status = find_place(log, &at, out);
    if (status != BUS_APPENDED) return status;
    old = &control->ring[at.slot];
choose:
    status = bus_ring_next(control, need, &slot, out);
    if (status != BUS_APPENDED) return status;
    next = &control->ring[slot];
    if (log->map_serials[slot] != next->serial) {
        out->detail = (uint64_t)slot;
        return BUS_NEED_MAP;
    }
    /* A file smaller than its slot says could never take the record: it would roll for ever. */
    if (log->map_bytes[slot] != next->bytes) return BUS_BROKEN;
    uint64_t number = BUS_TAIL_NUMBER(at.tail) + 1;
    if (((bus_segment *)log->maps[slot])->magic) control->recycled++;
    bus_segment_begin((bus_segment *)log->maps[slot], control, number, at.next_offset,
                      is_whole(log, &at) ? end_before((const bus_segment *)at.base, at.next_offset)
                                         : at.next_offset,
                      log->map_bytes[slot]);
    if (is_marked(log, slot)) { /* a file too small for anything: the broker takes it away */
        next->bytes = 0;
        out->attention = 1;
        goto choose;
    }
    bus_store_release(&next->base_offset, at.next_offset);
    next->end_offset = 0;
    bus_store_release(&control->ring_numbers[slot], number);

    if (is_whole(log, &at)) seal(&at, number);
    bus_store_release(&old->end_offset, at.next_offset);
    at.max_timestamp = INT64_MIN;
    publish(control, &at, BUS_TAIL(number, BUS_DATA_START));
    log->active_slot = slot;
    control->rolls++;
    return BUS_APPENDED;
}

/* Oldest first, whatever slots they stand in: a death in between leaves a window without a hole. */
void bus_log_retire_before(bus_partition *control, uint64_t offset) {
    int slot;
    while ((slot = bus_ring_oldest(control)) >= 0 && control->ring[slot].end_offset <= offset)
        bus_store_release(&control->ring_numbers[slot], 0);
    bus_fence_full();
}

int bus_pin(bus_partition *control, bus_reader *reader, int slot, uint64_t number) {
    bus_fetch_or(&reader->pins, (uint64_t)1 << slot);
    bus_fence_full(); /* pairs with the fence in retire: a number cleared before it is seen below */
    if (bus_load_acquire(&control->ring_numbers[slot]) == number) return 0;
    bus_unpin(reader, slot);
    return -1;
}

void bus_unpin(bus_reader *reader, int slot) {
    bus_fetch_and(&reader->pins, ~((uint64_t)1 << slot));
}

int bus_is_pinned(const bus_partition *control, int slot) {
    uint64_t high = bus_readers_high(control);
    for (uint64_t i = 0; i < high; i++) {
        const bus_reader *reader = &control->readers[i];
        if (!bus_reader_attached(reader)) continue;
        if (bus_load_acquire(&reader->pins) >> slot & 1) return 1;
    }
    return 0;
}
