#define _GNU_SOURCE
#include "stage.h"

#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "atomics.h"
#include "check.h"
#include "ring.h"

#define LOCK_TIMEOUT_NS ((int64_t)30 * 1000000000)

static void *memory(const stage *stage, uint64_t bytes) {
    if (!stage->shared) {
        void *at = aligned_alloc(BUS_PAGE, bytes);
        CHECK(at);
        return memset(at, 0, bytes);
    }
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    return at;
}

static void add_file(stage *stage, int slot, uint64_t bytes) {
    bus_ring_slot *file = &stage->control->ring[slot];
    uint64_t serial = ++stage->serials;
    CHECK(serial < STAGE_FILES);
    stage->files[serial] = memory(stage, bytes);
    file->bytes = bytes;
    bus_store_release(&file->serial, serial);
}

void stage_open(stage *stage, stage_options options) {
    memset(stage, 0, sizeof *stage);
    stage->shared = options.shared;
    bus_partition *control = stage->control = memory(stage, sizeof *control);
    control->magic = BUS_MAGIC_PARTITION;
    control->version = BUS_LAYOUT_VERSION;
    control->bus_id = 0xb05;
    control->topic_id = 7;
    control->flags = options.flags;
    control->hot_bytes = options.hot_bytes ? options.hot_bytes : 8 * BUS_MIB;
    control->segment_bytes = options.segment_bytes ? options.segment_bytes : BUS_MIB;
    control->offset_limit = options.offset_limit ? options.offset_limit : UINT64_MAX >> 1;
    control->max_message_bytes = BUS_MIB / 2;
    CHECK_EQUAL(bus_lock_create(&control->lock), 0);
    add_file(stage, 0, BUS_MIB);
    bus_segment_begin((bus_segment *)stage->files[1], control, 1, 0, 0, BUS_MIB);
    control->ring_numbers[0] = 1;
    control->tail = BUS_TAIL(1, BUS_DATA_START);
    control->ends[0] = (bus_end){.tail = control->tail, .max_timestamp = INT64_MIN};
}

void stage_close(stage *stage) {
    if (stage->shared) return;
    for (uint64_t serial = 1; serial <= stage->serials; serial++) free(stage->files[serial]);
    free(stage->control);
}

bus_log stage_log(stage *stage) { return (bus_log){.control = stage->control, .active_slot = -1}; }

bus_record stage_record(const void *value, uint32_t length) {
    bus_record record = {.value = value, .value_length = length, .timestamp = 1};
    record.attributes = BUS_ATTR_NULL_KEY;
    if (length >= BUS_ALIGNED_VALUE) record.attributes |= BUS_ATTR_ALIGNED;
    record.body_crc = bus_body_crc(&record);
    return record;
}

static void map(stage *stage, bus_log *log, int slot) {
    uint64_t serial = stage->control->ring[slot].serial;
    log->maps[slot] = stage->files[serial];
    log->map_bytes[slot] = stage->control->ring[slot].bytes;
    log->map_serials[slot] = serial;
}

void stage_tend(stage *stage, uint64_t need) {
    bus_partition *control = stage->control;
    while (bus_ring_drop_surplus(control, need)) continue;
    uint64_t bytes = bus_ring_wanted(control, need);
    for (int slot = 0; bytes && slot < BUS_RING_SLOTS; slot++) {
        /* A pin belongs to the slot: a file placed under an old pin could never be used. */
        if (control->ring[slot].serial || bus_is_pinned(control, slot)) continue;
        add_file(stage, slot, bytes);
        return;
    }
}

/* The thread sanitizer knows pthread_mutex_trylock, but not pthread_mutex_clocklock. */
static void take_lock(bus_mutex *lock) {
    enum bus_lock_result taken;
#ifdef __SANITIZE_THREAD__
    while ((taken = bus_lock_nowait(lock)) == BUS_LOCK_BUSY) sched_yield();
#else
    taken = bus_lock_wait(lock, LOCK_TIMEOUT_NS);
#endif
    CHECK(taken == BUS_LOCK_TAKEN || taken == BUS_LOCK_OWNER_DIED);
    if (taken == BUS_LOCK_OWNER_DIED) bus_lock_repaired(lock);
}

enum bus_append_status stage_append(stage *stage, bus_log *log, bus_record *records,
                                    uint64_t count, bus_appended *out) {
    *out = (bus_appended){0};
    take_lock(&stage->control->lock);
    enum bus_append_status status;
    for (int tries = 0;; tries++) {
        status = bus_log_append(log, records, count, out);
        if (status == BUS_NEED_MAP) map(stage, log, (int)out->detail);
        if (status == BUS_WAIT_SPARE) stage_tend(stage, out->detail);
        if (tries > BUS_RING_SLOTS) break;
        if (status != BUS_NEED_MAP && status != BUS_WAIT_SPARE) break;
    }
    bus_unlock(&stage->control->lock);
    return status;
}

enum bus_append_status stage_append_value(stage *stage, bus_log *log, const void *value,
                                          uint32_t length, uint64_t *offset) {
    bus_record record = stage_record(value, length);
    bus_appended out;
    enum bus_append_status status = stage_append(stage, log, &record, 1, &out);
    if (status == BUS_APPENDED && offset) *offset = out.last_offset;
    return status;
}

const uint8_t *stage_segment(stage *stage, int slot) {
    return stage->files[bus_load_acquire(&stage->control->ring[slot].serial)];
}

uint64_t stage_log_end(const stage *stage) {
    uint64_t next;
    bus_log_end(stage->control, &next);
    return next;
}
