/* damage.c: bytes that nobody wrote never crash a reader and are never taken for records. */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "stage.h"

enum { FRAMES = 200, BYTES = 64 * 1024 };

/* A segment in memory of exactly its size, so that a read beyond it is caught. */
static uint8_t *segment_with_frames(uint64_t *limit) {
    bus_partition *control = calloc(1, sizeof *control);
    uint8_t *base = aligned_alloc(64, BYTES);
    CHECK(control && base);
    memset(base, 0, BYTES);
    bus_segment_begin((bus_segment *)base, control, 1, 0, 0, BYTES);
    uint64_t position = BUS_DATA_START, seed = ((bus_segment *)base)->seed, state = 4;
    uint8_t value[200] = {0};
    for (uint64_t i = 0; i < FRAMES; i++) {
        bus_record record = stage_record(value, (uint32_t)(check_random(&state) % sizeof value));
        uint64_t size = bus_frame_bytes(position, &record);
        bus_frame_write(base, position, size, &record, i, seed);
        position += size;
    }
    *limit = position;
    free(control);
    return base;
}

static void a_scan_stops_at_the_first_damaged_frame(void) {
    uint64_t limit, state = 8;
    uint8_t *base = segment_with_frames(&limit);
    for (int round = 0; round < 2000; round++) {
        uint64_t at = BUS_DATA_START + check_random(&state) % (limit - BUS_DATA_START);
        uint8_t flip = (uint8_t)(1 + check_random(&state) % 255);
        bus_scan scan;
        base[at] ^= flip;
        bus_scan_frames(base, BUS_DATA_START, limit, 0, &scan);
        base[at] ^= flip;
        if (scan.error) CHECK(scan.end_position <= at && scan.next_offset < FRAMES);
        else CHECK_EQUAL(scan.next_offset, FRAMES); /* it hit padding */
    }
    free(base);
}

static void random_bytes_are_no_records(void) {
    uint64_t limit, state = 9;
    uint8_t *base = segment_with_frames(&limit), *target = malloc(BYTES);
    for (int round = 0; round < 300; round++) {
        for (uint64_t i = BUS_DATA_START; i < BYTES; i += 8) {
            uint64_t word = check_random(&state);
            if (word % 3 == 0) word &= 0xff; /* small numbers look like lengths */
            memcpy(base + i, &word, 8);
        }
        bus_scan scan;
        uint64_t offset;
        int64_t time;
        bus_scan_frames(base, BUS_DATA_START, BYTES, 0, &scan);
        CHECK(scan.error != BUS_FRAME_GOOD);
        bus_copy_frames(base, BUS_DATA_START, BYTES, 0, target, BYTES, &scan);
        bus_find_offset(base, BYTES, check_random(&state) % 1000);
        bus_find_time(base, BYTES, (int64_t)check_random(&state), &offset, &time);
    }
    free(target);
    free(base);
}

static void a_ruined_index_changes_no_answer(void) {
    uint64_t limit, state = 10;
    uint8_t *base = segment_with_frames(&limit);
    bus_segment *segment = (bus_segment *)base;
    for (int round = 0; round < 200; round++) {
        for (int i = 0; i < BUS_INDEX_ENTRIES; i++)
            segment->index[i] = (bus_index_entry){
                .position = (uint32_t)check_random(&state) % (BYTES * 2),
                .relative_offset = (uint32_t)check_random(&state) % FRAMES};
        uint64_t wanted = check_random(&state) % FRAMES;
        uint64_t position = bus_find_offset(base, limit, wanted);
        CHECK(position);
        CHECK_EQUAL(((const bus_frame *)(base + position))->offset, wanted);
    }
    free(base);
}

static void a_header_of_anything_else_is_refused_with_the_field(void) {
    uint64_t limit;
    uint8_t *base = segment_with_frames(&limit);
    bus_segment *segment = (bus_segment *)base;
    CHECK(bus_segment_header_error(segment, BYTES) == NULL);
    CHECK(strstr(bus_segment_header_error(segment, 100), "shorter"));
    segment->version++;
    CHECK(strstr(bus_segment_header_error(segment, BYTES), "version"));
    segment->version--, segment->base_offset++;
    CHECK(strstr(bus_segment_header_error(segment, BYTES), "header_crc"));
    segment->magic++;
    CHECK(strstr(bus_segment_header_error(segment, BYTES), "magic"));
    free(base);
}

static void a_tail_without_an_end_is_reported_instead_of_looked_at_for_ever(void) {
    static stage stage;
    uint64_t next;
    stage_open(&stage, (stage_options){0});
    CHECK(bus_log_end(stage.control, &next) == stage.control->tail);
    stage.control->tail += 8;
    CHECK_EQUAL(bus_log_end(stage.control, &next), 0);
    stage_close(&stage);
}

static void a_file_smaller_than_its_slot_says_is_not_rolled_into(void) {
    static stage stage;
    uint8_t value[8] = {0};
    stage_open(&stage, (stage_options){.flags = BUS_FLAG_DROP});
    bus_log log = stage_log(&stage);
    bus_appended out = {0};
    CHECK_EQUAL(stage_append_value(&stage, &log, value, sizeof value, NULL), BUS_APPENDED);
    stage_tend(&stage, 1);
    log.maps[1] = stage.files[2];
    log.map_serials[1] = stage.control->ring[1].serial;
    log.map_bytes[1] = stage.control->ring[1].bytes - 8;
    CHECK_EQUAL(bus_log_roll(&log, 1, &out), BUS_BROKEN);
    stage_close(&stage);
}

const check_test damage_tests[] = {
    {"a_tail_without_an_end_is_reported_instead_of_looked_at_for_ever",
     a_tail_without_an_end_is_reported_instead_of_looked_at_for_ever},
    {"a_file_smaller_than_its_slot_says_is_not_rolled_into",
     a_file_smaller_than_its_slot_says_is_not_rolled_into},
    {"a_scan_stops_at_the_first_damaged_frame", a_scan_stops_at_the_first_damaged_frame},
    {"random_bytes_are_no_records", random_bytes_are_no_records},
    {"a_ruined_index_changes_no_answer", a_ruined_index_changes_no_answer},
    {"a_header_of_anything_else_is_refused_with_the_field",
     a_header_of_anything_else_is_refused_with_the_field},
    {NULL, NULL},
};
