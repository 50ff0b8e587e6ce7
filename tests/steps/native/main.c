/* main.c: dies at every instruction of the paths, and looks at every state that a death can leave.
 *
 *     steps DIRECTORY BUS_ID [--path PREFIX] [--deaths N] [--grid N] [--later-grid N] [--dense N]
 *           [--long] [--ask]
 *
 * A survivor sees shared memory, and what the kernel does for a robust lock; nothing else of the
 * dead matters. So states are compared: each different one is audited once, and is where the next
 * victim begins. --grid 1 kills before every instruction; a larger one at every so many, and then
 * at those in between where the state changes. --ask: whoever started this looks at each state as
 * well, in the files, and answers with a line, "good" or what is wrong.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "audit.h"
#include "client.h"
#include "fault.h"
#include "paths.h"

enum { STATES_MAX = 20000, STEPPED_EVERY = 97, STEPPED_MAX = 3000 };
enum { EDGE_BEFORE = 400, EDGE_AFTER = 300, ROUNDS_EDGE = 8, ROUNDS_STRIDE = 1021 };

static struct {
    const char *path;
    int deaths, ask, with_long;
    long dense, grid, later_grid;
} options = {.deaths = 1, .dense = 1, .grid = 1, .later_grid = 1};

static image states[STATES_MAX];
static long states_count, kills, instructions;

static const image *known(uint64_t hash) {
    for (long i = 0; i < states_count; i++)
        if (states[i].hash == hash) return &states[i];
    return NULL;
}

static void ask(const path *path) {
    char answer[512];
    printf("ask %s\n", path->name);
    fflush(stdout);
    DEMAND(fgets(answer, sizeof answer, stdin));
    answer[strcspn(answer, "\n")] = 0;
    if (strcmp(answer, "good")) fault("%s", answer);
}

static void check_step(const path *path, extent before, extent after) {
    if (after.end != before.end && after.end != before.end + path->adds)
        fault("the log ended at %" PRIu64 ", now at %" PRIu64, before.end, after.end);
    if (after.durable < before.durable) fault("the high watermark moved back");
    if (after.start != before.start && !(path->retires && after.start > before.start))
        fault("the hot log began at %" PRIu64 ", now at %" PRIu64, before.start, after.start);
}

/* The arena is as a death has left it. */
static uint64_t examine(arena *arena, const path *path, extent before, int deaths) {
    kills++;
    image state = arena_take(arena);
    state.deaths = deaths;
    if (known(state.hash)) {
        uint64_t hash = state.hash;
        image_free(&state);
        return hash;
    }
    DEMAND(states_count < STATES_MAX);
    long faults = fault_count();
    check_step(path, before, audit_log(arena));
    if (options.ask && fault_count() == faults) ask(path);
    arena_restore(arena, &state);
    if (fault_count() == faults) audit_survival(arena); /* what is broken would hang it */
    states[states_count++] = state;
    return state.hash;
}

/* Every instruction, but in the middle of long copies: there bytes change that nobody reads. */
static int is_chosen(const path *path, const recording *recorded, long n) {
    long round = recorded->rounds[n];
    if (round > ROUNDS_EDGE && n + ROUNDS_EDGE < recorded->count &&
        recorded->rounds[n + ROUNDS_EDGE] == round + ROUNDS_EDGE)
        return round % (ROUNDS_STRIDE / options.dense) == 0;
    if (path->stride && n > EDGE_BEFORE && n < recorded->count - EDGE_AFTER)
        return n % (path->stride / options.dense) == 0;
    return 1;
}

typedef struct { /* one operation from one state, killed again and again */
    arena *arena;
    const path *path;
    const char *name;
    long from;
    bus_log log;
    extent before;
    recording recorded;
} series;

/* Every so often a child comes to its instruction by single steps alone: the state must be the one
 * that the breakpoint led to, or the shorter way cannot be trusted. */
static void check_way(series *series, long n, uint64_t expected) {
    arena_restore(series->arena, &states[series->from]);
    tracer_kill(series->arena, series->path->operate, &series->recorded, n, 1);
    image state = arena_take(series->arena);
    if (state.hash != expected) fault("single steps lead to another state than a breakpoint");
    image_free(&state);
}

/* Kills a victim before instruction n; the hash of what it leaves. */
static uint64_t die_at(series *series, long n) {
    arena *arena = series->arena;
    int deaths = states[series->from].deaths + 1;
    fault_at(series->name, deaths, n, series->recorded.addresses[n]);
    arena_restore(arena, &states[series->from]);
    arena->log = series->log;
    tracer_kill(arena, series->path->operate, &series->recorded, n, 0);
    uint64_t hash = examine(arena, series->path, series->before, deaths);
    arena->log = series->log;
    if (n % STEPPED_EVERY == 0 && n < STEPPED_MAX) check_way(series, n, hash);
    return hash;
}

/* Between two instructions that leave different states, finds the one that makes the difference. */
static void look_between(series *series, long low, uint64_t left, long high, uint64_t right) {
    if (left == right || high - low < 2) return;
    long middle = low + (high - low) / 2;
    if (!is_chosen(series->path, &series->recorded, middle)) return;
    uint64_t hash = die_at(series, middle);
    look_between(series, low, left, middle, hash);
    look_between(series, middle, hash, high, right);
}

static void die_everywhere(arena *arena, const path *path, const char *name, long from) {
    series series = {.arena = arena, .path = path, .name = name, .from = from};
    long grid = states[from].deaths ? options.later_grid : options.grid;
    arena_restore(arena, &states[from]);
    if (states[from].deaths) path->set_up(arena);
    series.log = arena->log;
    series.before = audit_log(arena);
    tracer_record(arena, path->operate, &series.recorded);
    long last = series.recorded.count - 1, low = 0;
    instructions += last;
    uint64_t left = die_at(&series, 0);
    for (long n = 1; n <= last; n++) {
        if (n != last && (n % grid || !is_chosen(path, &series.recorded, n))) continue;
        uint64_t right = die_at(&series, n);
        look_between(&series, low, left, n, right);
        low = n;
        left = right;
    }
    recording_free(&series.recorded);
}

static void sweep(arena *arena, const path *path) {
    struct timespec begun, ended;
    timespec_get(&begun, TIME_UTC);
    states_count = kills = instructions = 0;
    fault_at(path->name, 0, 0, 0);
    arena_reset(arena, path->flags);
    path->set_up(arena);
    bus_log warm = arena->log, cold = {.control = arena->control, .active_slot = -1};
    arena_set_base(arena);
    long faults = fault_count();
    states[states_count++] = arena_take(arena);
    audit_survival(arena);
    for (long i = 0; i < states_count && states[i].deaths < options.deaths; i++) {
        arena->log = states[i].deaths ? cold : warm;
        die_everywhere(arena, states[i].deaths ? &next_append : path, path->name, i);
    }
    timespec_get(&ended, TIME_UTC);
    double seconds = (double)(ended.tv_sec - begun.tv_sec);
    seconds += 1e-9 * (double)(ended.tv_nsec - begun.tv_nsec);
    printf("path %s|%ld|%ld|%ld|%ld|%.2f\n", path->name, instructions, kills, states_count,
           fault_count() - faults, seconds);
    fflush(stdout);
    while (states_count) image_free(&states[--states_count]);
}

static void read_options(int argc, char **argv) {
    for (int i = 3; i < argc; i++) {
        if (strcmp(argv[i], "--ask") == 0) options.ask = 1;
        else if (strcmp(argv[i], "--long") == 0) options.with_long = 1;
        else if (i + 1 == argc) DEMAND(!"an option lacks its value");
        else if (strcmp(argv[i], "--path") == 0) options.path = argv[++i];
        else if (strcmp(argv[i], "--deaths") == 0) options.deaths = atoi(argv[++i]);
        else if (strcmp(argv[i], "--dense") == 0) options.dense = atol(argv[++i]);
        else if (strcmp(argv[i], "--grid") == 0) options.grid = atol(argv[++i]);
        else if (strcmp(argv[i], "--later-grid") == 0) options.later_grid = atol(argv[++i]);
        else DEMAND(!"an unknown option");
    }
}

int main(int argc, char **argv) {
    static arena arena;
    DEMAND(argc >= 3);
    read_options(argc, argv);
    arena_open(&arena, argv[1], strtoull(argv[2], NULL, 16));
    int swept = 0;
    for (const path *path = paths; path->name; path++) {
        if (options.path && strncmp(options.path, path->name, strlen(options.path)))
            continue;
        if (path->stride && !options.with_long) continue;
        sweep(&arena, path);
        swept++;
    }
    arena_close(&arena);
    printf("swept %d paths, %ld single steps, %ld violations\n", swept, tracer_steps,
           fault_count());
    return fault_count() ? 1 : swept ? 0 : 2;
}
