#define _GNU_SOURCE
#include "client.h"

#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "atomics.h"
#include "fault.h"
#include "lock.h"
#include "reader.h"

#define LOCK_NS ((int64_t)5 * 1000000000)

int client_clock_stands;

/* A victim repeats instruction for instruction: its clock must not bring in another number. */
int clock_gettime(clockid_t clock, struct timespec *now) {
    if (client_clock_stands) {
        *now = (struct timespec){.tv_sec = 1700000000};
        return 0;
    }
    return (int)syscall(SYS_clock_gettime, clock, now);
}

void client_lock(arena *arena) {
    bus_mutex *lock = &arena->control->lock;
    enum bus_lock_result taken = bus_lock_nowait(lock);
    if (taken == BUS_LOCK_BUSY) taken = bus_lock_wait(lock, LOCK_NS);
    if (taken == BUS_LOCK_OWNER_DIED) {
        arena->control->deaths_repaired++;
        bus_lock_repaired(lock);
        taken = BUS_LOCK_TAKEN;
    }
    if (taken != BUS_LOCK_TAKEN) fault("the lock cannot be taken: result %d", (int)taken);
}

void client_unlock(arena *arena) { bus_unlock(&arena->control->lock); }

static void map(arena *arena, int slot) {
    arena->log.maps[slot] = arena_segment(arena, slot);
    arena->log.map_bytes[slot] = arena->control->ring[slot].bytes;
    arena->log.map_serials[slot] = arena->control->ring[slot].serial;
}

enum bus_append_status client_append(arena *arena, bus_record *records, uint64_t count,
                                     bus_appended *out) {
    *out = (bus_appended){0};
    uint64_t before = 0;
    for (;;) {
        client_lock(arena);
        enum bus_append_status status = bus_log_append(&arena->log, records, count, out);
        client_unlock(arena);
        if (out->done != before) bus_wake(&arena->control->data, &arena->bells);
        before = out->done;
        if (status != BUS_NEED_MAP) return status;
        map(arena, (int)out->detail);
    }
}

enum bus_append_status client_roll(arena *arena) {
    for (;;) {
        bus_appended out = {0};
        client_lock(arena);
        enum bus_append_status status = bus_log_roll(&arena->log, 1, &out);
        client_unlock(arena);
        if (status == BUS_APPENDED) bus_wake(&arena->control->data, &arena->bells);
        if (status != BUS_NEED_MAP) return status;
        map(arena, (int)out.detail);
    }
}

bus_reader *client_attach(arena *arena, int client, int must_wait, uint64_t position) {
    return bus_reader_attach(arena->control, client, 1, (uint32_t)must_wait, position);
}

void client_detach(arena *arena, bus_reader *reader) {
    bus_store32_release(&reader->owner, 0);
    bus_wake(&arena->control->space, &arena->bells);
}

void client_publish(arena *arena, bus_reader *reader, uint64_t position) {
    bus_store_release(&reader->position, position);
    bus_wake(&arena->control->space, &arena->bells);
}

void client_tend(arena *arena, uint64_t need) {
    bus_partition *control = arena->control;
    client_lock(arena);
    while (bus_ring_drop_surplus(control, need)) continue;
    uint64_t bytes = bus_ring_wanted(control, need);
    if (bytes) DEMAND(bus_ring_add(control, arena_add_file(arena, bytes), bytes) == 0);
    client_unlock(arena);
}

int client_reap(arena *arena, int client) {
    client_lock(arena);
    int freed = bus_readers_reap(arena->control, client, 1, 1);
    client_unlock(arena);
    return freed;
}

static uint64_t word_of(uint64_t offset) { return (offset + 1) * 0x9e3779b97f4a7c15ull; }

int client_value_is(const uint8_t *value, uint64_t length, uint64_t offset) {
    uint64_t word = word_of(offset);
    for (uint64_t at = 0; at + 8 <= length; at += 8)
        if (memcmp(value + at, &word, 8)) return 0;
    return memcmp(value + length / 8 * 8, &word, length % 8) == 0;
}

/* Small values each have a place of their own, so that a batch can be made of them. */
static uint64_t *place_of(uint64_t offset, uint32_t length) {
    enum { SMALL = 64, PLACES = 64 };
    static uint64_t large[ARENA_FILE_BYTES / 8], small[PLACES][SMALL + 1];
    return length <= SMALL * 8 ? small[offset % PLACES] : large;
}

bus_record client_record(uint64_t offset, uint32_t key_length, uint32_t length) {
    static const char key[64] = "a key of some length, which no reader takes for a value at all";
    int null_value = length == CLIENT_NULL;
    bus_record record = {.key = key, .key_length = key_length, .timestamp = (int64_t)offset + 1};
    record.value_length = null_value ? 0 : length;
    uint64_t *value = place_of(offset, record.value_length);
    record.value = value;
    if (key_length == 0) record.attributes |= BUS_ATTR_NULL_KEY;
    if (null_value) record.attributes |= BUS_ATTR_NULL_VALUE;
    if (record.value_length >= BUS_ALIGNED_VALUE) record.attributes |= BUS_ATTR_ALIGNED;
    for (uint64_t i = 0; i * 8 < record.value_length; i++) value[i] = word_of(offset);
    record.body_crc = bus_body_crc(&record);
    return record;
}
