#include "paths.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "atomics.h"
#include "client.h"
#include "crc32c.h"
#include "durable.h"
#include "fault.h"
#include "lag.h"
#include "lag_words.h"

enum { BATCH = 12, SMALL = 60, STREAMED = 300 * 1024 };

/* Made before the operation, for what is serialized outside of the lock is seen by nobody. */
static bus_record records[BATCH];
static bus_reader *reader;

static uint64_t end_of(const arena *arena) {
    uint64_t end;
    bus_log_end(arena->control, &end);
    return end;
}

static void prepare(arena *arena, int count, uint32_t key_length, uint32_t length) {
    static uint8_t values[BATCH][STREAMED];
    for (int i = 0; i < count; i++) {
        records[i] = client_record(end_of(arena) + (uint64_t)i, key_length, length);
        records[i].value = memcpy(values[i], records[i].value, records[i].value_length);
    }
}

static void add(arena *arena, uint32_t length) {
    bus_appended out;
    bus_record record = client_record(end_of(arena), 3, length);
    while (client_append(arena, &record, 1, &out) != BUS_APPENDED) client_tend(arena, out.detail);
}

static void one(arena *arena) {
    bus_appended out;
    client_append(arena, records, 1, &out);
}

static void batch(arena *arena) {
    bus_appended out;
    client_append(arena, records, BATCH, &out);
}

static void a_few(arena *arena) {
    for (uint32_t i = 0; i < 3; i++) add(arena, 10 + i);
    prepare(arena, 1, 3, 20);
}

static void a_few_unmapped(arena *arena) {
    a_few(arena);
    arena->log = (bus_log){.control = arena->control, .active_slot = -1};
}

static void a_few_before_null(arena *arena) {
    a_few(arena);
    prepare(arena, 1, 0, CLIENT_NULL);
}

static void a_few_before_batch(arena *arena) {
    a_few(arena);
    prepare(arena, BATCH, 3, SMALL);
}

static void a_new_range_of_the_index(arena *arena) {
    add(arena, 5000);
    prepare(arena, 1, 40, 20);
}

static void a_few_before_aligned(arena *arena) {
    a_few(arena);
    prepare(arena, 1, 3, 1500);
}

static void a_few_before_large(arena *arena) {
    a_few(arena);
    prepare(arena, 1, 3, STREAMED);
}

/* ------------------------------------------------------------------------------- rolling */

/* Fills the active segment so that a record of SMALL bytes finds no room: 48 bytes are kept for the
 * end frame, and a frame has up to 128 more than its value. */
static void fill(arena *arena) {
    for (;;) {
        uint64_t room = BUS_MIB - sizeof(bus_frame) - BUS_TAIL_POSITION(arena->control->tail);
        if (room < SMALL + 60) break;
        add(arena, room > 600 * 1024 ? 500 * 1024 : room > 128 ? (uint32_t)room - 128 : 0);
    }
    prepare(arena, 1, 3, SMALL);
}

static void fill_segments(arena *arena, int count) {
    for (;;) {
        fill(arena);
        if (--count == 0) return;
        add(arena, SMALL);
    }
}

static void a_full_segment_and_a_spare(arena *arena) {
    fill(arena);
    client_tend(arena, 0);
}

static void a_full_ring(arena *arena) { fill_segments(arena, 4); }

static void a_full_durable_ring(arena *arena) {
    a_full_ring(arena);
    bus_publish_durable(arena->control, end_of(arena));
}

static void a_full_ring_that_was_read(arena *arena) {
    a_full_ring(arena);
    DEMAND(client_attach(arena, ARENA_READER, 1, end_of(arena)));
}

static void a_full_ring_that_was_not_read(arena *arena) {
    a_full_ring(arena);
    DEMAND(client_attach(arena, ARENA_READER, 0, 1));
}

static void a_warm_free_file(arena *arena) {
    a_full_ring(arena);
    bus_log_retire_before(arena->control, arena->control->ring[1].base_offset);
}

static void hold_oldest(arena *arena) {
    int slot = bus_slot_of(arena->control, 1);
    arena->held = client_attach(arena, ARENA_READER, 0, 0);
    DEMAND(arena->held && bus_pin(arena->control, arena->held, slot, 1) == 0);
    arena->held_serial = arena->control->ring[slot].serial;
    arena->held_crc = bus_crc32c(0, arena_segment(arena, slot) + BUS_DATA_START,
                                 BUS_MIB - BUS_DATA_START);
}

static void a_full_ring_with_a_pin(arena *arena) {
    a_full_ring(arena);
    hold_oldest(arena);
}

static int free_slot(const arena *arena) {
    int slot = bus_ring_available(arena->control, 1);
    DEMAND(slot >= 0);
    return slot;
}

/* What a roller leaves that dies before the tail; the log may have grown since. */
static void a_prepared_slot(arena *arena) {
    a_full_segment_and_a_spare(arena);
    int slot = free_slot(arena);
    bus_partition *control = arena->control;
    bus_segment_begin((bus_segment *)arena_segment(arena, slot), control, 2, 1, 1, BUS_MIB);
    control->ring[slot].base_offset = 1;
    control->ring_numbers[slot] = 2;
}

static void a_prepared_slot_and_a_larger_file(arena *arena) {
    a_prepared_slot(arena);
    DEMAND(bus_ring_add(arena->control, arena_add_file(arena, 2 * BUS_MIB), 2 * BUS_MIB) == 0);
    arena->control->hot_bytes = 6 * BUS_MIB;
}

static void roll_for_a_large_record(arena *arena) {
    bus_appended out = {0};
    enum bus_append_status status;
    client_lock(arena);
    while ((status = bus_log_roll(&arena->log, 3 * BUS_MIB / 2, &out)) == BUS_NEED_MAP) {
        arena->log.maps[out.detail] = arena_segment(arena, (int)out.detail);
        arena->log.map_bytes[out.detail] = arena->control->ring[out.detail].bytes;
        arena->log.map_serials[out.detail] = arena->control->ring[out.detail].serial;
    }
    client_unlock(arena);
    DEMAND(status == BUS_APPENDED);
}

static void roll(arena *arena) { client_roll(arena); }

/* ---------------------------------------------------------------------- retiring, the broker */

/* Slots and numbers in different orders, as in a ring that has gone round. */
static void a_ring_out_of_order(arena *arena) {
    a_full_ring(arena);
    bus_partition *control = arena->control;
    bus_ring_slot first = control->ring[0];
    uint64_t number = control->ring_numbers[0];
    control->ring[0] = control->ring[2];
    control->ring_numbers[0] = control->ring_numbers[2];
    control->ring[2] = first;
    control->ring_numbers[2] = number;
    arena->log = (bus_log){.control = control, .active_slot = -1};
}

static void retire_all_sealed(arena *arena) {
    client_lock(arena);
    bus_log_retire_before(arena->control, end_of(arena) - 1);
    client_unlock(arena);
}

/* The file is made before the victim begins: here is only what it does to the ring. */
static void a_file_outside_of_the_ring(arena *arena) {
    a_few(arena);
    arena_add_file(arena, BUS_MIB);
}

static void add_spare(arena *arena) {
    client_lock(arena);
    bus_ring_add(arena->control, arena->base_serials, BUS_MIB);
    client_unlock(arena);
    bus_wake(&arena->control->space, &arena->bells);
}

static void free_files(arena *arena) {
    a_full_ring(arena);
    bus_log_retire_before(arena->control, arena->control->ring[2].base_offset);
}

static void drop_surplus(arena *arena) {
    client_lock(arena);
    while (bus_ring_drop_surplus(arena->control, 2 * BUS_MIB)) continue; /* all are too small */
    client_unlock(arena);
}

static void a_dead_reader(arena *arena) {
    a_few(arena);
    for (int i = 0; i < 3; i++) DEMAND(client_attach(arena, ARENA_VICTIM, 1, 0));
}

static void a_few_in_part_durable(arena *arena) {
    a_few(arena);
    bus_publish_durable(arena->control, 1);
}

static void publish_durable(arena *arena) {
    bus_publish_durable(arena->control, end_of(arena));
    bus_wake(&arena->control->durable, &arena->bells);
    bus_wake(&arena->control->space, &arena->bells);
}

static void reap(arena *arena) { client_reap(arena, ARENA_VICTIM); }

/* ------------------------------------------------------------------------------- readers */

static void attach(arena *arena) { client_attach(arena, ARENA_VICTIM, 1, 0); }

static void an_attached_reader(arena *arena) {
    a_full_ring(arena);
    reader = client_attach(arena, ARENA_VICTIM, 1, 0);
    DEMAND(reader);
}

static void a_pinning_reader(arena *arena) {
    an_attached_reader(arena);
    DEMAND(bus_pin(arena->control, reader, bus_slot_of(arena->control, 2), 2) == 0);
}

static void detach(arena *arena) { client_detach(arena, reader); }

static void publish(arena *arena) { client_publish(arena, reader, end_of(arena)); }

static void pin(arena *arena) {
    bus_pin(arena->control, reader, bus_slot_of(arena->control, 1), 1);
}

static void pin_too_late(arena *arena) { bus_pin(arena->control, reader, 1, 1); }

static void unpin(arena *arena) { bus_unpin(reader, bus_slot_of(arena->control, 2)); }

/* ----------------------------------------------------------------------------- sleepers */

static void sleepers(arena *arena) {
    a_few(arena);
    DEMAND(bus_bell(&arena->bells, ARENA_SLEEPER)); /* opened before */
    bus_sleeper_set(&arena->control->data, ARENA_SLEEPER);
    bus_sleeper_set(&arena->control->data, ARENA_SLEEPER + 64);
}

static void wake(arena *arena) { bus_wake(&arena->control->data, &arena->bells); }

static void sleep_and_get_up(arena *arena) {
    bus_sleeper_set(&arena->control->data, ARENA_VICTIM);
    bus_sleeper_clear(&arena->control->data, ARENA_VICTIM);
}

/* --------------------------------------------------------------------------------- locks */

static void a_dead_holder(arena *arena) {
    a_few(arena);
    pid_t pid = fork();
    DEMAND(pid >= 0);
    if (pid == 0) {
        client_lock(arena);
        _exit(0);
    }
    DEMAND(waitpid(pid, NULL, 0) == pid);
}

static void take_and_give(arena *arena) {
    client_lock(arena);
    client_unlock(arena);
}

/* ------------------------------------------------------------------ consumers that lag */

static void a_gate_in_the_middle_of_a_batch(arena *arena) {
    a_few_before_batch(arena);
    bus_lag_set(arena->control, end_of(arena) + LAG_ALLOWS + 1, UINT64_MAX, 0);
}

static void an_old_gate(arena *arena) {
    sleepers(arena);
    bus_sleeper_set(&arena->control->space, ARENA_SLEEPER);
    lag_words_write(arena->control, &lag_words_old);
}

static void a_new_gate(arena *arena) {
    an_old_gate(arena);
    lag_words_write(arena->control, &lag_words_new);
}

static void write_gate(arena *arena) { lag_words_write(arena->control, &lag_words_new); }

static void take_back(arena *arena) {
    if (bus_lag_moved(arena->control, (int64_t)lag_words_new.from - 1))
        bus_wake(&arena->control->space, &arena->bells);
}

static void close_gate(arena *arena) {
    bus_lag_close(arena->control, 1);
    bus_wake(&arena->control->space, &arena->bells);
}

enum { DROP = BUS_FLAG_DROP, REPLICATED = BUS_FLAG_REPLICATED };

const path paths[] = {
    {"append one record", DROP, a_few, one, 1, 0, 0},
    {"append through a new mapping", DROP, a_few_unmapped, one, 1, 0, 0},
    {"append null key and value", DROP, a_few_before_null, one, 1, 0, 0},
    {"append with an index entry", DROP, a_new_range_of_the_index, one, 1, 0, 0},
    {"append an aligned value", DROP, a_few_before_aligned, one, 1, 0, 0},
    {"append a batch", DROP, a_few_before_batch, batch, BATCH, 0, 0},
    {"append 300 KiB", DROP, a_few_before_large, one, 1, 0, 5003},
    {"roll into a fresh spare", REPLICATED, a_full_segment_and_a_spare, one, 1, 0, 0},
    {"roll into a warm free file", DROP, a_warm_free_file, one, 1, 0, 0},
    {"roll and drop the oldest", DROP, a_full_ring_that_was_not_read, one, 1, 1, 0},
    {"roll and retire the durable", REPLICATED, a_full_durable_ring, one, 1, 1, 0},
    {"roll and retire what was read", 0, a_full_ring_that_was_read, one, 1, 1, 0},
    {"roll around a pin", DROP, a_full_ring_with_a_pin, one, 1, 1, 0},
    {"roll into a dead roller's slot", DROP, a_prepared_slot, one, 1, 0, 0},
    {"roll past a dead roller's small file", DROP, a_prepared_slot_and_a_larger_file,
     roll_for_a_large_record, 0, 0, 0},
    {"roll an idle segment", REPLICATED, a_full_segment_and_a_spare, roll, 0, 0, 0},
    {"retire before an offset", REPLICATED, a_ring_out_of_order, retire_all_sealed, 0, 1, 0},
    {"add a spare", DROP, a_file_outside_of_the_ring, add_spare, 0, 0, 0},
    {"drop surplus files", DROP, free_files, drop_surplus, 0, 0, 0},
    {"raise the high watermark", REPLICATED, a_few_in_part_durable, publish_durable, 0, 0, 0},
    {"reap a dead reader", DROP, a_dead_reader, reap, 0, 0, 0},
    {"attach a reader", 0, a_full_ring, attach, 0, 0, 0},
    {"detach a reader", 0, a_pinning_reader, detach, 0, 0, 0},
    {"publish a reader's position", 0, a_pinning_reader, publish, 0, 0, 0},
    {"pin a segment", 0, an_attached_reader, pin, 0, 0, 0},
    {"pin too late", 0, an_attached_reader, pin_too_late, 0, 0, 0},
    {"unpin a segment", 0, a_pinning_reader, unpin, 0, 0, 0},
    {"wake two sleepers", DROP, sleepers, wake, 0, 0, 0},
    {"go to sleep and get up", DROP, sleepers, sleep_and_get_up, 0, 0, 0},
    {"append up to a lag gate", DROP, a_gate_in_the_middle_of_a_batch, batch, LAG_ALLOWS, 0, 0},
    {"write what consumers allow", DROP, an_old_gate, write_gate, 0, 0, 0},
    {"tell of a commit that moved back", DROP, a_new_gate, take_back, 0, 0, 0},
    {"get all to look at consumers", DROP, a_new_gate, close_gate, 0, 0, 0},
    {"take and give the lock", DROP, a_few, take_and_give, 0, 0, 0},
    {"repair a dead holder's lock", DROP, a_dead_holder, take_and_give, 0, 0, 0},
    {"append behind a dead holder", DROP, a_dead_holder, one, 1, 0, 0},
    {0},
};

static void prepare_next(arena *arena) { prepare(arena, 1, 3, 20); }

const path next_append = {"next append", 0, prepare_next, one, 1, 1, 0};
