/* appends.c: one writer, one log: offsets, rolling, searching, copying. */
#include <string.h>

#include "atomics.h"
#include "check.h"
#include "stage.h"

static void offsets_are_dense_and_the_records_are_there(void) {
    stage stage;
    stage_open(&stage, (stage_options){.flags = BUS_FLAG_DROP});
    bus_log log = stage_log(&stage);
    for (uint64_t i = 0; i < 1000; i++) {
        uint64_t offset;
        CHECK_EQUAL(stage_append_value(&stage, &log, &i, sizeof i, &offset), BUS_APPENDED);
        CHECK_EQUAL(offset, i);
    }
    bus_scan scan;
    uint64_t next, limit = BUS_TAIL_POSITION(bus_log_end(stage.control, &next));
    bus_scan_frames(stage_segment(&stage, 0), BUS_DATA_START, limit, 0,
                    SEED(stage_segment(&stage, 0)), &scan);
    CHECK_EQUAL(scan.error, BUS_FRAME_GOOD);
    CHECK_EQUAL(scan.next_offset, 1000);
    CHECK_EQUAL(scan.end_position, limit);
    CHECK(!scan.sealed);
    stage_close(&stage);
}

static void a_batch_is_published_as_one_and_may_cross_segments(void) {
    enum { COUNT = 3000, SIZE = 1000 };
    static bus_record records[COUNT];
    static uint8_t value[SIZE];
    stage stage;
    stage_open(&stage, (stage_options){.flags = BUS_FLAG_DROP});
    bus_log log = stage_log(&stage);
    for (int i = 0; i < COUNT; i++) records[i] = stage_record(value, SIZE);
    bus_appended out;
    CHECK_EQUAL(stage_append(&stage, &log, records, COUNT, &out), BUS_APPENDED);
    CHECK_EQUAL(out.done, COUNT);
    CHECK_EQUAL(out.last_offset, COUNT - 1);
    CHECK_EQUAL(stage_log_end(&stage), COUNT);
    CHECK_EQUAL(stage.control->rolls, COUNT * 1050 / BUS_MIB);
    stage_close(&stage);
}

static void a_rolled_segment_is_sealed_with_its_end(void) {
    static uint8_t value[100000];
    stage stage;
    stage_open(&stage, (stage_options){.flags = BUS_FLAG_DROP});
    bus_log log = stage_log(&stage);
    while (stage.control->rolls == 0)
        CHECK_EQUAL(stage_append_value(&stage, &log, value, sizeof value, NULL), BUS_APPENDED);
    const bus_segment *first = (const bus_segment *)stage_segment(&stage, 0);
    bus_scan scan;
    bus_scan_frames((const uint8_t *)first, BUS_DATA_START, first->bytes, 0, first->seed, &scan);
    CHECK(scan.sealed);
    CHECK_EQUAL(scan.end_position, first->end_position);
    CHECK_EQUAL(scan.next_offset, first->end_offset);
    int slot = bus_slot_of(stage.control, 2);
    const bus_segment *second = (const bus_segment *)stage_segment(&stage, slot);
    CHECK_EQUAL(second->base_offset, first->end_offset);
    CHECK(bus_segment_header_error(second, second->bytes) == NULL);
    stage_close(&stage);
}

static void every_offset_and_every_time_is_found(void) {
    static uint8_t value[3000];
    enum { COUNT = 2000 };
    stage stage;
    stage_open(&stage, (stage_options){.flags = BUS_FLAG_DROP});
    bus_log log = stage_log(&stage);
    uint64_t state = 5, count = 0;
    for (; count < COUNT && stage.control->rolls == 0; count++) {
        bus_record record = stage_record(value, (uint32_t)(check_random(&state) % 800));
        record.timestamp = (int64_t)(10 * count);
        bus_appended out;
        CHECK_EQUAL(stage_append(&stage, &log, &record, 1, &out), BUS_APPENDED);
    }
    const uint8_t *base = stage_segment(&stage, 0);
    uint64_t next, end = bus_log_end(stage.control, &next), limit = BUS_MIB;
    if (stage.control->rolls == 0) limit = BUS_TAIL_POSITION(end);
    for (uint64_t wanted = 0; wanted + 1 < count; wanted++) {
        uint64_t offset;
        int64_t time;
        uint64_t position = bus_find_offset(base, limit, 0, SEED(base), wanted);
        CHECK(position);
        CHECK_EQUAL(((const bus_frame *)(base + position))->offset, wanted);
        int64_t after = (int64_t)(10 * wanted) - 3;
        CHECK_EQUAL(bus_find_time(base, limit, after, &offset, &time), position);
        CHECK_EQUAL(offset, wanted);
    }
    CHECK_EQUAL(bus_find_offset(base, limit, 0, SEED(base), next + 1), 0);
    stage_close(&stage);
}

static void a_copy_takes_whole_frames_only(void) {
    static uint8_t value[1000], target[64 * 1024];
    stage stage;
    stage_open(&stage, (stage_options){.flags = BUS_FLAG_DROP});
    bus_log log = stage_log(&stage);
    for (int i = 0; i < 500; i++) stage_append_value(&stage, &log, value, sizeof value, NULL);
    uint64_t next, limit = BUS_TAIL_POSITION(bus_log_end(stage.control, &next));
    uint64_t position = BUS_DATA_START, offset = 0;
    const uint8_t *base = stage_segment(&stage, 0);
    while (position < limit) {
        bus_scan scan;
        bus_copy_frames(base, position, limit, offset, SEED(base), target, sizeof target, &scan);
        CHECK_EQUAL(scan.error, BUS_FRAME_GOOD);
        CHECK(scan.end_position > position);
        CHECK(!memcmp(target, base + position, scan.end_position - position));
        position = scan.end_position;
        offset = scan.next_offset;
    }
    CHECK_EQUAL(offset, 500);
    bus_scan scan;
    CHECK(bus_copy_frames(base, BUS_DATA_START, limit, 0, SEED(base), target, 100, &scan) > 1000);
    CHECK_EQUAL(scan.end_position, BUS_DATA_START);
    stage_close(&stage);
}

static void no_offset_at_the_limit_is_given_out(void) {
    stage stage;
    stage_open(&stage, (stage_options){.flags = BUS_FLAG_DROP, .offset_limit = 10});
    bus_log log = stage_log(&stage);
    for (uint64_t i = 0; i < 10; i++)
        CHECK_EQUAL(stage_append_value(&stage, &log, &i, 8, NULL), BUS_APPENDED);
    CHECK_EQUAL(stage_append_value(&stage, &log, "x", 1, NULL), BUS_WAIT_OFFSETS);
    CHECK_EQUAL(stage_log_end(&stage), 10);
    bus_store_release(&stage.control->offset_limit, 11);
    CHECK_EQUAL(stage_append_value(&stage, &log, "x", 1, NULL), BUS_APPENDED);
    stage_close(&stage);
}

static void a_deleted_topic_and_a_contradiction_are_refused(void) {
    stage stage;
    stage_open(&stage, (stage_options){.flags = BUS_FLAG_DROP | BUS_FLAG_DELETED});
    bus_log log = stage_log(&stage);
    CHECK_EQUAL(stage_append_value(&stage, &log, "x", 1, NULL), BUS_TOPIC_DELETED);
    stage.control->flags = BUS_FLAG_DROP;
    stage.control->ends[0].tail = 1;
    CHECK_EQUAL(stage_append_value(&stage, &log, "x", 1, NULL), BUS_BROKEN);
    stage_close(&stage);
}

const check_test append_tests[] = {
    {"offsets_are_dense_and_the_records_are_there", offsets_are_dense_and_the_records_are_there},
    {"a_batch_is_published_as_one_and_may_cross_segments",
     a_batch_is_published_as_one_and_may_cross_segments},
    {"a_rolled_segment_is_sealed_with_its_end", a_rolled_segment_is_sealed_with_its_end},
    {"every_offset_and_every_time_is_found", every_offset_and_every_time_is_found},
    {"a_copy_takes_whole_frames_only", a_copy_takes_whole_frames_only},
    {"no_offset_at_the_limit_is_given_out", no_offset_at_the_limit_is_given_out},
    {"a_deleted_topic_and_a_contradiction_are_refused",
     a_deleted_topic_and_a_contradiction_are_refused},
    {NULL, NULL},
};
