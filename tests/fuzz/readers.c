/* readers.c: damages a segment and a control page, again and again, and lets everybody read them.
 *
 * Half of the damaged frames and headers get a valid checksum, so that what lies behind the check
 * is tried, too. All memory has exactly the size that its reader is told, and the program runs
 * under the address and undefined-behaviour sanitizers: a byte too far ends it.
 *
 *     readers SEED SECONDS         prints the number of executions
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "atomics.h"
#include "check.h"
#include "ring.h"
#include "stage.h"

enum { BYTES = 16384, FRAMES = 24 };
#define SECOND ((int64_t)1000000000)

static const uint64_t edges[] = {0, 1, 7, 8, 47, 48, 0xffff, 0x7fffffff, 0xffffffff,
                                 INT64_MAX, (uint64_t)INT64_MIN, UINT64_MAX, UINT64_MAX - 47,
                                 BUS_DATA_START, BYTES, BYTES - 48, BYTES + 8};

static uint64_t odd_number(uint64_t *state) {
    uint64_t random = check_random(state);
    if (random % 4 == 0) return check_random(state);
    if (random % 4 == 1) return check_random(state) % (2 * BYTES);
    return edges[random / 4 % (sizeof edges / sizeof *edges)] + random % 3 - 1;
}

/* One word, of 1 to 8 bytes, somewhere between two positions. */
static void damage(uint8_t *base, uint64_t from, uint64_t to, uint64_t *state) {
    uint64_t bytes = (uint64_t)1 << check_random(state) % 4, word = odd_number(state);
    uint64_t at = from + check_random(state) % (to - from) / bytes * bytes;
    if (at + bytes <= to) memcpy(base + at, &word, bytes);
}

static uint64_t segment_with_frames(uint8_t *base, const bus_partition *control,
                                    uint64_t at[FRAMES], uint64_t *state) {
    static const uint8_t value[400];
    memset(base, 0, BYTES);
    bus_segment_begin((bus_segment *)base, control, 1, 5, 5, BYTES);
    uint64_t position = BUS_DATA_START, seed = ((bus_segment *)base)->seed;
    for (uint64_t i = 0; i < FRAMES; i++) {
        bus_record record = stage_record(value, (uint32_t)(check_random(state) % 100));
        uint64_t size = bus_frame_bytes(position, &record);
        bus_frame_write(base, position, size, &record, 5 + i, seed);
        at[i] = position;
        ((bus_segment *)base)->index[position / (BYTES / BUS_INDEX_ENTRIES)] = (bus_index_entry){
            .position = (uint32_t)position, .relative_offset = (uint32_t)i, .max_timestamp = 1};
        position += size;
    }
    bus_frame_write_end(base, position, 5 + FRAMES, 2, seed);
    return position + sizeof(bus_frame);
}

/* A checksum that holds, over whatever the header says now, if that can be read at all. */
static void mend_frame(uint8_t *base, uint64_t position, uint64_t seed) {
    bus_frame frame;
    memcpy(&frame, base + position, sizeof frame);
    uint64_t value = bus_value_position(position, frame.attributes, frame.key_length,
                                        frame.headers_length);
    if (value + frame.value_length > BYTES) return;
    bus_record body = {.key = base + position + sizeof frame,
                       .headers = base + position + sizeof frame + frame.key_length,
                       .value = base + value,
                       .key_length = frame.key_length,
                       .headers_length = frame.headers_length,
                       .value_length = frame.value_length,
                       .attributes = frame.attributes};
    ((bus_frame *)(base + position))->crc = bus_crc32c_frame(bus_body_crc(&body), &frame, seed);
}

static void mend_header(bus_segment *segment) {
    segment->header_crc =
        bus_crc32c(0, (const uint8_t *)segment + 16, offsetof(bus_segment, reserved) - 16);
}

static void read_everything(const uint8_t *base, uint64_t limit, uint8_t *target, uint64_t room,
                            uint64_t *state) {
    const bus_segment *segment = (const bus_segment *)base;
    bus_scan scan;
    uint64_t offset;
    int64_t time;
    bus_segment_header_error(segment, BYTES);
    bus_scan_frames(base, BUS_DATA_START, limit, segment->base_offset, segment->seed, &scan);
    CHECK(scan.end_position <= limit || scan.end_position == BUS_DATA_START);
    bus_copy_frames(base, BUS_DATA_START, limit, segment->base_offset, segment->seed, target, room,
                    &scan);
    CHECK(scan.end_position - BUS_DATA_START <= room);
    uint64_t wanted = segment->base_offset + odd_number(state) % (FRAMES + 2);
    uint64_t position = bus_find_offset(base, limit, segment->base_offset, segment->seed, wanted);
    CHECK(position == 0 || position + sizeof(bus_frame) <= limit);
    position = bus_find_time(base, limit, (int64_t)odd_number(state), &offset, &time);
    CHECK(position == 0 || position + sizeof(bus_frame) <= limit);
    bus_frame_check(base, odd_number(state), limit, wanted, segment->seed, 1);
}

static void try_a_segment(uint8_t *base, uint8_t *target, uint64_t room, uint64_t *state) {
    bus_partition control = {.bus_id = 1, .topic_id = 2};
    uint64_t at[FRAMES], limit = segment_with_frames(base, &control, at, state);
    bus_segment *segment = (bus_segment *)base;
    for (uint64_t i = 1 + check_random(state) % 4; i; i--) {
        uint64_t kind = check_random(state) % 4, frame = at[check_random(state) % FRAMES];
        if (kind == 0) damage(base, 0, 192, state);
        if (kind == 1) damage(base, BUS_PAGE, BUS_DATA_START, state);
        if (kind >= 2) damage(base, frame, frame + sizeof(bus_frame), state);
        if (kind == 3) mend_frame(base, frame, segment->seed);
    }
    if (check_random(state) % 2) mend_header(segment);
    if (check_random(state) % 4 == 0) limit = check_random(state) % (BYTES + 1);
    read_everything(base, limit, target, room, state);
}

/* Appenders, rollers and readers on a control page of which any word but the lock may be odd. */
static void try_a_control_page(uint64_t *state) {
    static stage stage;
    static const uint8_t value[3000];
    stage_open(&stage, (stage_options){.hot_bytes = 4 * BUS_MIB,
                                       .flags = check_random(state) % 2 ? BUS_FLAG_DROP : 0});
    bus_partition *control = stage.control;
    bus_log log = {.control = control, .active_slot = -1};
    for (int i = 0; i < 8; i++) {
        uint64_t where = check_random(state) % 5, next;
        uint8_t *page = (uint8_t *)control;
        if (where == 0) damage(page, 64, 128, state);
        if (where == 1) damage(page, 192, 320, state);
        if (where == 2) damage(page, offsetof(bus_partition, ring_numbers), 3 * BUS_PAGE, state);
        if (where == 3)
            damage(page, offsetof(bus_partition, readers_high), 3 * BUS_PAGE + 256, state);
        bus_record record = stage_record(value, (uint32_t)(check_random(state) % sizeof value));
        bus_appended out = {0};
        log.maps[0] = stage.files[1];
        log.map_bytes[0] = BUS_MIB;
        log.map_serials[0] = 1;
        bus_log_append(&log, &record, 1, &out);
        if (check_random(state) % 4 == 0) bus_log_roll(&log, 1, &out);
        bus_log_end(control, &next);
        bus_hot_start(control);
        bus_ring_wanted(control, odd_number(state));
        bus_ring_drop_surplus(control, odd_number(state));
        bus_pin(control, &control->readers[0], (int)(check_random(state) % BUS_RING_SLOTS), 1);
    }
    stage_close(&stage);
}

int main(int argc, char **argv) {
    CHECK(argc == 3);
    uint64_t state = strtoull(argv[1], NULL, 10) * 2 + 1, done = 0;
    int64_t end = bus_now_ns() + strtoll(argv[2], NULL, 10) * SECOND;
    uint8_t *base = aligned_alloc(64, BYTES);
    CHECK(base);
    while (bus_now_ns() < end) {
        uint64_t room = 64 + check_random(&state) % BYTES / 8 * 8;
        uint8_t *target = malloc(room);
        CHECK(target);
        for (int i = 0; i < 1000; i++, done++) try_a_segment(base, target, room, &state);
        free(target);
        try_a_control_page(&state);
        done++;
    }
    free(base);
    printf("%" PRIu64 " executions\n", done);
    return 0;
}
