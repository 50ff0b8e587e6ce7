/* damage.c: bytes that nobody wrote never crash a reader and are never taken for records. */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "durable.h"
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
        bus_scan_frames(base, BUS_DATA_START, limit, 0, SEED(base), &scan);
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
        bus_scan_frames(base, BUS_DATA_START, BYTES, 0, SEED(base), &scan);
        CHECK(scan.error != BUS_FRAME_GOOD);
        bus_copy_frames(base, BUS_DATA_START, BYTES, 0, SEED(base), target, BYTES, &scan);
        bus_find_offset(base, BYTES, 0, SEED(base), check_random(&state) % 1000);
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
        uint64_t position = bus_find_offset(base, limit, 0, SEED(base), wanted);
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

static int is_lost(const bus_partition *control, uint64_t offset) {
    bus_lost found;
    return bus_is_lost(control, offset, &found);
}

static void what_is_lost_is_remembered_however_much_it_is(void) {
    bus_partition *control = calloc(1, sizeof *control);
    CHECK(control);
    for (uint64_t i = 0; i < 3 * BUS_LOST_RANGES; i++) {
        bus_note_lost(control, 10 * i, 10 * i + 2);
        for (uint64_t before = 0; before <= i; before++) {
            CHECK(is_lost(control, 10 * before) && is_lost(control, 10 * before + 1));
            if (before < BUS_LOST_RANGES - 2) CHECK(!is_lost(control, 10 * before + 2));
        }
        CHECK(!is_lost(control, 10 * i + 2));
    }
    free(control);
}

/* Whichever store a replica dies behind: what was noted before stays, and is noted again. */
static void a_range_that_is_half_written_hides_no_other(void) {
    bus_partition *control = calloc(1, sizeof *control);
    CHECK(control);
    for (uint64_t i = 0; i < 2 * BUS_LOST_RANGES; i++) {
        bus_lost before[BUS_LOST_RANGES];
        memcpy(before, control->lost, sizeof before);
        bus_note_lost(control, 10 * i, 10 * i + 2);
        int changed = 0;
        while (changed < BUS_LOST_RANGES - 1 &&
               !memcmp(&before[changed], &control->lost[changed], sizeof *before))
            changed++;
        control->lost[changed].check = before[changed].check; /* the last store is missing */
        for (uint64_t noted = 0; noted < i; noted++) CHECK(is_lost(control, 10 * noted));
        bus_note_lost(control, 10 * i, 10 * i + 2);
        CHECK(is_lost(control, 10 * i));
    }
    free(control);
}

static void random_bytes_are_no_range_of_lost_records(void) {
    bus_partition *control = calloc(1, sizeof *control);
    uint64_t state = 11;
    CHECK(control);
    for (int round = 0; round < 1000; round++) {
        uint64_t *words = (uint64_t *)control->lost;
        for (size_t i = 0; i < sizeof control->lost / 8; i++)
            words[i] = check_random(&state) % 3 ? check_random(&state) : i % 3;
        for (uint64_t offset = 0; offset < 3; offset++) CHECK(!is_lost(control, offset));
    }
    free(control);
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
    {"what_is_lost_is_remembered_however_much_it_is",
     what_is_lost_is_remembered_however_much_it_is},
    {"a_range_that_is_half_written_hides_no_other", a_range_that_is_half_written_hides_no_other},
    {"random_bytes_are_no_range_of_lost_records", random_bytes_are_no_range_of_lost_records},
    {NULL, NULL},
};
