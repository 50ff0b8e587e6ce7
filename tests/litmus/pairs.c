/* pairs.c: the core's pairs on the processor that runs this, between threads and processes.
 *
 * Each pair is run many times by two runners that begin each round together. A round's words stand
 * on cache lines of their own in shared memory, and are used once. `sb-unfenced` leaves the fences
 * out on purpose: its forbidden outcome must be seen, or the others prove nothing.
 *
 *     pairs threads|processes PAIR SECONDS      prints the rounds and the forbidden outcomes
 *
 * What a processor does not reorder, or qemu does not, cannot be seen here: see weak.cpp.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "atomics.h"
#include "check.h"
#include "durable.h"
#include "lock.h"
#include "log.h"
#include "reader.h"
#include "wait.h"

enum { ROUNDS = 256 }; /* of one batch; the runners meet before each round */

typedef struct {
    uint64_t word;
    char room[BUS_CACHE_LINE - sizeof(uint64_t)];
} line;

typedef struct {
    line x, y, seen[2];
    bus_sleepers sleepers;
    bus_reader reader;
} round_words;

typedef struct {
    line arrived[2], batch;
    round_words rounds[ROUNDS];
    bus_partition control;
    bus_control bus;
    bus_bells bells;
} scene;

typedef struct {
    const char *name;
    void (*run[2])(scene *, round_words *);
    int (*is_forbidden)(const round_words *);
} pair;

/* ---- store buffering: both stores, then both loads; not both may miss the other's store */

static void sb_left(scene *all, round_words *at) {
    (void)all;
    bus_store_relaxed(&at->x.word, 1);
    bus_fence_full();
    at->seen[0].word = bus_load_relaxed(&at->y.word);
}
static void sb_right(scene *all, round_words *at) {
    (void)all;
    bus_store_relaxed(&at->y.word, 1);
    bus_fence_full();
    at->seen[1].word = bus_load_relaxed(&at->x.word);
}
static void unfenced_left(scene *all, round_words *at) {
    (void)all;
    bus_store_relaxed(&at->x.word, 1);
    at->seen[0].word = bus_load_relaxed(&at->y.word);
}
static void unfenced_right(scene *all, round_words *at) {
    (void)all;
    bus_store_relaxed(&at->y.word, 1);
    at->seen[1].word = bus_load_relaxed(&at->x.word);
}
static int neither_saw(const round_words *at) { return !at->seen[0].word && !at->seen[1].word; }

/* ---- a sleeper and a waker: bus_sleeper_set, bus_wake */

static void waker(scene *all, round_words *at) {
    bus_store_release(&at->x.word, 1);
    at->seen[0].word = (uint64_t)bus_wake(&at->sleepers, &all->bells);
}
static void sleeper(scene *all, round_words *at) {
    (void)all;
    bus_sleeper_set(&at->sleepers, 70);
    at->seen[1].word = bus_load_acquire(&at->x.word);
}

/* ---- a reader and a recycler: bus_pin; the recycler as `retire` and bus_is_pinned do it */

static void recycler(scene *all, round_words *at) {
    (void)all;
    bus_store_release(&at->x.word, 0);
    bus_fence_full();
    at->seen[0].word = bus_load_acquire(&at->reader.pins);
}
static void pinner(scene *all, round_words *at) {
    (void)all;
    bus_fetch_or(&at->reader.pins, 1);
    bus_fence_full();
    at->seen[1].word = bus_load_acquire(&at->x.word) != 1;
}

/* ---- message passing: publish and bus_log_end; marks; a reader's place */

static void writer(scene *all, round_words *at) {
    (void)all;
    bus_store_relaxed(&at->x.word, 1);
    bus_store_release(&at->y.word, 1);
}
static void looker(scene *all, round_words *at) {
    (void)all;
    at->seen[0].word = bus_load_acquire(&at->y.word);
    at->seen[1].word = bus_load_relaxed(&at->x.word);
}
static int flag_without_data(const round_words *at) {
    return at->seen[0].word && !at->seen[1].word;
}

static void publisher(scene *all, round_words *at) {
    at->x.word = 1;
    bus_publish_durable(&all->control, (uint64_t)(at - all->rounds) + 1);
}
static void waiter(scene *all, round_words *at) {
    at->seen[0].word = bus_durable_end(&all->control) >= (uint64_t)(at - all->rounds) + 1;
    at->seen[1].word = bus_load_relaxed(&at->x.word);
}

static void attacher(scene *all, round_words *at) {
    (void)all;
    bus_store_relaxed(&at->reader.generation, 7);
    bus_store32_release(&at->reader.owner, 5);
}
static void reaper(scene *all, round_words *at) {
    (void)all;
    at->seen[0].word = (uint64_t)bus_reader_attached(&at->reader);
    at->seen[1].word = bus_load_relaxed(&at->reader.generation);
}

/* ---- load buffering: both loads, then both release stores; not both may see what comes later */

static void lb_left(scene *all, round_words *at) {
    (void)all;
    at->seen[0].word = bus_load_relaxed(&at->x.word);
    bus_store_release(&at->y.word, 1);
}
static void lb_right(scene *all, round_words *at) {
    (void)all;
    at->seen[1].word = bus_load_relaxed(&at->y.word);
    bus_store_release(&at->x.word, 1);
}
static int both_saw(const round_words *at) { return at->seen[0].word && at->seen[1].word; }

static const pair pairs[] = {
    {"sb-unfenced", {unfenced_left, unfenced_right}, neither_saw},
    {"sb", {sb_left, sb_right}, neither_saw},
    {"sleep-and-wake", {waker, sleeper}, neither_saw},
    {"pin-and-retire", {recycler, pinner}, neither_saw},
    {"mp", {writer, looker}, flag_without_data},
    {"marks", {publisher, waiter}, flag_without_data},
    {"reader-attach", {attacher, reaper}, flag_without_data},
    {"lb", {lb_left, lb_right}, both_saw},
};

/* ------------------------------------------------------------------------------ the runners */

static const pair *chosen;
static int64_t deadline;

/* Both have come to round `number` of all; a runner without a processor of its own gives it up. */
static void meet(scene *all, int me, uint64_t number) {
    bus_store_release(&all->arrived[me].word, number);
    for (int spin = 0; bus_load_acquire(&all->arrived[!me].word) < number; spin++) {
        if (spin < 2000) bus_cpu_relax();
        else usleep(0);
    }
}

static void reset(scene *all, int with_number) {
    memset(all->rounds, 0, sizeof all->rounds);
    memset(&all->control, 0, BUS_PAGE);
    for (int i = 0; with_number && i < ROUNDS; i++) all->rounds[i].x.word = 1; /* the segment's */
}

/* Returns the forbidden outcomes; runner 0 counts them, and says when it is over. */
static uint64_t run(scene *all, int me, uint64_t *rounds) {
    uint64_t forbidden = 0, number = 0;
    int with_number = chosen->run[0] == recycler, control = chosen->run[0] == unfenced_left;
    for (uint64_t batch = 1; ; batch++) {
        if (me == 0) {
            reset(all, with_number);
            int over = bus_now_ns() >= deadline || (control && forbidden);
            bus_store_release(&all->batch.word, over ? UINT64_MAX : batch);
        }
        meet(all, me, ++number);
        if (bus_load_acquire(&all->batch.word) == UINT64_MAX) break;
        for (int i = 0; i < ROUNDS; i++) {
            meet(all, me, ++number);
            chosen->run[me](all, &all->rounds[i]);
        }
        meet(all, me, ++number);
        for (int i = 0; me == 0 && i < ROUNDS; i++)
            forbidden += (uint64_t)chosen->is_forbidden(&all->rounds[i]);
        *rounds += ROUNDS;
    }
    return forbidden;
}

static void *second_runner(void *argument) {
    uint64_t rounds = 0;
    run(argument, 1, &rounds);
    return NULL;
}

static void start_second(scene *all, int in_process, pthread_t *thread, pid_t *child) {
    if (!in_process) {
        CHECK_EQUAL(pthread_create(thread, NULL, second_runner, all), 0);
        return;
    }
    *child = fork();
    CHECK(*child >= 0);
    if (*child == 0) {
        second_runner(all);
        _exit(0);
    }
}

int main(int argc, char **argv) {
    CHECK(argc == 4);
    int in_process = strcmp(argv[1], "processes") == 0, status = 0;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (strcmp(pairs[i].name, argv[2]) == 0) chosen = &pairs[i];
    CHECK(chosen);
    deadline = bus_now_ns() + (int64_t)(atof(argv[3]) * 1e9);
    scene *all = mmap(NULL, sizeof *all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(all != MAP_FAILED);
    all->bells.control = &all->bus;
    pthread_t thread;
    pid_t child;
    uint64_t rounds = 0;
    start_second(all, in_process, &thread, &child);
    uint64_t forbidden = run(all, 0, &rounds);
    if (in_process) CHECK(waitpid(child, &status, 0) == child && status == 0);
    else pthread_join(thread, NULL);
    printf("%s %" PRIu64 " rounds, %" PRIu64 " forbidden\n", chosen->name, rounds, forbidden);
    return 0;
}
