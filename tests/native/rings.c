/* rings.c: what is recycled, what is not, and who is waited for. */
#include <string.h>

#include "atomics.h"
#include "check.h"
#include "durable.h"
#include "reader.h"
#include "ring.h"
#include "stage.h"

enum { LARGE = 200000 };
static uint8_t large[LARGE];

static enum bus_append_status append_segments(stage *stage, bus_log *log, uint64_t segments) {
    uint64_t until = stage->control->rolls + segments;
    enum bus_append_status status = BUS_APPENDED;
    while (status == BUS_APPENDED && stage->control->rolls < until)
        status = stage_append_value(stage, log, large, LARGE, NULL);
    return status;
}

static bus_reader *attach_reader(stage *stage, uint64_t index, uint32_t flags) {
    return bus_reader_attach(stage->control, (int)index, 1, flags, 0);
}

static void a_dropping_ring_stays_within_its_bytes_and_recycles(void) {
    stage stage;
    stage_open(&stage, (stage_options){.flags = BUS_FLAG_DROP});
    bus_log log = stage_log(&stage);
    CHECK_EQUAL(append_segments(&stage, &log, 50), BUS_APPENDED);
    CHECK(bus_ring_total(stage.control) <= stage.control->hot_bytes);
    CHECK(stage.control->recycled > 30);
    CHECK(bus_hot_start(stage.control) > 0);
    stage_close(&stage);
}

static void a_pinned_segment_never_changes(void) {
    stage stage;
    stage_open(&stage, (stage_options){.flags = BUS_FLAG_DROP});
    bus_log log = stage_log(&stage);
    CHECK_EQUAL(append_segments(&stage, &log, 3), BUS_APPENDED);
    bus_reader *reader = attach_reader(&stage, 0, 0);
    int slot = bus_slot_of(stage.control, 2);
    CHECK_EQUAL(bus_pin(stage.control, reader, slot, 2), 0);
    const uint8_t *pinned = stage_segment(&stage, slot);
    uint32_t before = bus_crc32c(0, pinned, BUS_MIB);
    CHECK_EQUAL(append_segments(&stage, &log, 50), BUS_APPENDED);
    CHECK_EQUAL(bus_crc32c(0, pinned, BUS_MIB), before);
    CHECK_EQUAL(((const bus_segment *)pinned)->number, 2);
    stage_close(&stage);
}

static void a_pin_that_comes_too_late_is_refused(void) {
    stage stage;
    stage_open(&stage, (stage_options){.flags = BUS_FLAG_DROP});
    bus_log log = stage_log(&stage);
    CHECK_EQUAL(append_segments(&stage, &log, 50), BUS_APPENDED);
    bus_reader *reader = attach_reader(&stage, 0, 0);
    CHECK_EQUAL(bus_pin(stage.control, reader, 0, 1), -1);
    CHECK_EQUAL(reader->pins, 0);
    stage_close(&stage);
}

static void a_lossless_ring_waits_for_its_slowest_reader(void) {
    stage stage;
    stage_open(&stage, (stage_options){0});
    bus_log log = stage_log(&stage);
    attach_reader(&stage, 0, 1)->position = UINT64_MAX >> 1;
    bus_reader *slow = attach_reader(&stage, 3, 1);
    CHECK_EQUAL(append_segments(&stage, &log, 50), BUS_WAIT_READER);
    uint64_t end = stage_log_end(&stage);
    bus_appended out;
    bus_record record = stage_record(large, LARGE);
    CHECK_EQUAL(stage_append(&stage, &log, &record, 1, &out), BUS_WAIT_READER);
    CHECK_EQUAL(out.detail, (uint64_t)(slow - stage.control->readers));
    CHECK_EQUAL(stage_log_end(&stage), end);
    bus_store_release(&slow->position, end);
    CHECK_EQUAL(append_segments(&stage, &log, 3), BUS_APPENDED);
    stage_close(&stage);
}

static void a_place_that_is_only_claimed_holds_nobody_up_and_is_reaped_by_the_broker_alone(void) {
    stage stage;
    stage_open(&stage, (stage_options){0});
    bus_log log = stage_log(&stage);
    bus_reader *dead = attach_reader(&stage, 5, 1);
    bus_store_release(&dead->pins, UINT64_MAX); /* what the owner before has left */
    bus_store32_release(&dead->owner, BUS_READER_CLAIMED | 6);
    CHECK_EQUAL(append_segments(&stage, &log, 50), BUS_APPENDED);
    CHECK(bus_reader_has(stage.control, 5));
    CHECK_EQUAL(bus_readers_reap(stage.control, 5, 1, 0), 0);
    CHECK(attach_reader(&stage, 7, 0) != dead);
    CHECK_EQUAL(bus_readers_reap(stage.control, 5, 1, 1), 0);
    CHECK(!bus_reader_has(stage.control, 5));
    CHECK(attach_reader(&stage, 7, 0) == dead);
    stage_close(&stage);
}

static void a_replicated_ring_waits_for_the_watermark(void) {
    stage stage;
    stage_open(&stage, (stage_options){.flags = BUS_FLAG_REPLICATED});
    bus_log log = stage_log(&stage);
    CHECK_EQUAL(append_segments(&stage, &log, 50), BUS_WAIT_REPLICA);
    bus_publish_durable(stage.control, stage_log_end(&stage));
    CHECK_EQUAL(append_segments(&stage, &log, 3), BUS_APPENDED);
    stage_close(&stage);
}

static void a_record_larger_than_a_segment_gets_a_file_of_its_own(void) {
    static uint8_t huge[3 * 1024 * 1024];
    stage stage;
    stage_open(&stage, (stage_options){.flags = BUS_FLAG_DROP});
    bus_log log = stage_log(&stage);
    for (int i = 0; i < 10; i++)
        CHECK_EQUAL(stage_append_value(&stage, &log, huge, sizeof huge, NULL), BUS_APPENDED);
    CHECK_EQUAL(stage_log_end(&stage), 10);
    stage_close(&stage);
}

const check_test ring_tests[] = {
    {"a_dropping_ring_stays_within_its_bytes_and_recycles",
     a_dropping_ring_stays_within_its_bytes_and_recycles},
    {"a_pinned_segment_never_changes", a_pinned_segment_never_changes},
    {"a_pin_that_comes_too_late_is_refused", a_pin_that_comes_too_late_is_refused},
    {"a_lossless_ring_waits_for_its_slowest_reader", a_lossless_ring_waits_for_its_slowest_reader},
    {"a_place_that_is_only_claimed_holds_nobody_up_and_is_reaped_by_the_broker_alone",
     a_place_that_is_only_claimed_holds_nobody_up_and_is_reaped_by_the_broker_alone},
    {"a_replicated_ring_waits_for_the_watermark", a_replicated_ring_waits_for_the_watermark},
    {"a_record_larger_than_a_segment_gets_a_file_of_its_own",
     a_record_larger_than_a_segment_gets_a_file_of_its_own},
    {NULL, NULL},
};
