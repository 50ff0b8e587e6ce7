/* locks.c: the lock outlives its holder, and so does the log that it guards. */
#define _GNU_SOURCE
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "stage.h"

#define SECOND ((int64_t)1000000000)

static bus_mutex *shared_lock(void) {
    int flags = MAP_SHARED | MAP_ANONYMOUS;
    bus_mutex *lock = mmap(NULL, BUS_PAGE, PROT_READ | PROT_WRITE, flags, -1, 0);
    CHECK(lock != MAP_FAILED);
    CHECK_EQUAL(bus_lock_create(lock), 0);
    return lock;
}

static void wait_for(pid_t child) {
    int status;
    CHECK(waitpid(child, &status, 0) == child);
}

static void a_holder_that_dies_hands_the_lock_on(void) {
    bus_mutex *lock = shared_lock();
    pid_t child = fork();
    if (child == 0) {
        bus_lock_wait(lock, SECOND);
        _exit(0);
    }
    wait_for(child);
    CHECK_EQUAL(bus_lock_nowait(lock), BUS_LOCK_OWNER_DIED);
    bus_lock_repaired(lock);
    bus_unlock(lock);
    CHECK_EQUAL(bus_lock_nowait(lock), BUS_LOCK_TAKEN);
    bus_unlock(lock);
}

static void a_lock_left_unrepaired_is_lost_for_all(void) {
    bus_mutex *lock = shared_lock();
    pid_t child = fork();
    if (child == 0) {
        bus_lock_wait(lock, SECOND);
        _exit(0);
    }
    wait_for(child);
    CHECK_EQUAL(bus_lock_nowait(lock), BUS_LOCK_OWNER_DIED);
    bus_unlock(lock);
    CHECK_EQUAL(bus_lock_nowait(lock), BUS_LOCK_LOST);
}

static void a_held_lock_names_its_holder_and_times_out(void) {
    bus_mutex *lock = shared_lock();
    int ready[2];
    CHECK(pipe(ready) == 0);
    pid_t child = fork();
    if (child == 0) {
        bus_lock_wait(lock, SECOND);
        if (write(ready[1], "x", 1) == 1) pause();
        _exit(1);
    }
    char byte;
    CHECK(read(ready[0], &byte, 1) == 1);
    int64_t before = bus_now_ns();
    CHECK_EQUAL(bus_lock_nowait(lock), BUS_LOCK_BUSY);
    CHECK_EQUAL(bus_lock_wait(lock, SECOND / 50), BUS_LOCK_BUSY);
    CHECK(bus_now_ns() - before >= SECOND / 50);
    CHECK_EQUAL(bus_lock_owner(lock), child);
    kill(child, SIGKILL);
    CHECK_EQUAL(bus_lock_wait(lock, 10 * SECOND), BUS_LOCK_OWNER_DIED);
    wait_for(child);
    close(ready[0]);
    close(ready[1]);
}

static void append_for_ever(stage *stage) {
    static uint8_t value[64 * 1024];
    bus_log log = stage_log(stage);
    for (uint32_t size = 1;; size = size * 7 % (sizeof value - 1) + 1)
        if (stage_append_value(stage, &log, value, size, NULL) != BUS_APPENDED) _exit(1);
}

/* The first segments are made beforehand: a child's files would be known to the child alone. */
static void check_whole_log(stage *stage) {
    uint64_t next, tail = bus_log_end(stage->control, &next);
    for (int slot = 0; slot < BUS_RING_SLOTS; slot++) {
        uint64_t number = stage->control->ring_numbers[slot];
        if (!number || number > BUS_TAIL_NUMBER(tail)) continue;
        const uint8_t *base = stage_segment(stage, slot);
        const bus_segment *segment = (const bus_segment *)base;
        int active = number == BUS_TAIL_NUMBER(tail);
        uint64_t limit = active ? BUS_TAIL_POSITION(tail) : segment->bytes;
        bus_scan scan;
        bus_scan_frames(base, BUS_DATA_START, limit, segment->base_offset, SEED(base), &scan);
        CHECK_EQUAL(scan.error, BUS_FRAME_GOOD);
        CHECK_EQUAL(scan.sealed, !active);
        if (active) CHECK_EQUAL(scan.next_offset, next);
    }
}

static void a_writer_killed_anywhere_leaves_a_whole_log(void) {
    enum { ROUNDS = 60 };
    stage stage;
    stage_open(&stage, (stage_options){.flags = BUS_FLAG_DROP, .shared = 1});
    bus_log log = stage_log(&stage);
    static uint8_t value[64 * 1024];
    while (stage.control->recycled < 20)
        CHECK_EQUAL(stage_append_value(&stage, &log, value, sizeof value, NULL), BUS_APPENDED);
    uint64_t state = 11;
    for (int round = 0; round < ROUNDS; round++) {
        pid_t child = fork();
        if (child == 0) append_for_ever(&stage);
        struct timespec pause = {.tv_nsec = (long)(1000000 + check_random(&state) % 4000000)};
        nanosleep(&pause, NULL);
        CHECK(kill(child, SIGKILL) == 0);
        wait_for(child);
        uint64_t end = stage_log_end(&stage), offset;
        CHECK_EQUAL(stage_append_value(&stage, &log, "after", 5, &offset), BUS_APPENDED);
        CHECK_EQUAL(offset, end);
        check_whole_log(&stage);
    }
}

const check_test lock_tests[] = {
    {"a_holder_that_dies_hands_the_lock_on", a_holder_that_dies_hands_the_lock_on},
    {"a_lock_left_unrepaired_is_lost_for_all", a_lock_left_unrepaired_is_lost_for_all},
    {"a_held_lock_names_its_holder_and_times_out", a_held_lock_names_its_holder_and_times_out},
    {"a_writer_killed_anywhere_leaves_a_whole_log", a_writer_killed_anywhere_leaves_a_whole_log},
    {NULL, NULL},
};
