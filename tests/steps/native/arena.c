#define _GNU_SOURCE
#include "arena.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "atomics.h"
#include "crc32c.h"
#include "fault.h"
#include "lock.h"

/* Owners from here on say that a robust mutex is inconsistent, or lost. */
#define MARKS_OF_GLIBC 0x7ffffffe
#define FIRST_FILE ((ARENA_CONTROL_PAGES + ARENA_BUS_PAGES) * BUS_PAGE)

static int make(const char *directory, const char *name, uint64_t bytes, void *at) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    DEMAND(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0);
    DEMAND(mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == at);
    return fd;
}

void arena_open(arena *arena, const char *directory, uint64_t bus_id) {
    memset(arena, 0, sizeof *arena);
    uint64_t bytes = ARENA_PAGES * BUS_PAGE;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    arena->memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    arena->base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    DEMAND(arena->memory != MAP_FAILED && arena->base != MAP_FAILED);
    arena->control = (bus_partition *)arena->memory;
    arena->bus = (bus_control *)(arena->memory + sizeof(bus_partition));
    close(make(directory, "7-0.ctl", sizeof(bus_partition), arena->control));
    close(make(directory, "bus.ctl", sizeof(bus_control), arena->bus));
    for (int serial = 1; serial <= ARENA_FILES; serial++) {
        char name[64];
        snprintf(name, sizeof name, "7-0.%d.seg", serial);
        void *at = arena->memory + FIRST_FILE + (uint64_t)(serial - 1) * ARENA_FILE_BYTES;
        arena->fds[serial] = make(directory, name, ARENA_FILE_BYTES, at);
    }
    arena->bus->bus_id = bus_id;
    arena->bus->hot_id = 1;
    arena->bus->clients[ARENA_SLEEPER].generation = 1;
    char name[BUS_BELL_NAME];
    bus_bell_name(arena->bus, ARENA_SLEEPER, name);
    arena->bell = sem_open(name, O_CREAT | O_EXCL, 0600, 0);
    DEMAND(arena->bell != SEM_FAILED);
    arena->bells.control = arena->bus;
}

void arena_close(arena *arena) {
    char name[BUS_BELL_NAME];
    bus_bell_name(arena->bus, ARENA_SLEEPER, name);
    bus_bells_close(&arena->bells);
    sem_close(arena->bell);
    DEMAND(sem_unlink(name) == 0);
}

uint8_t *arena_file(arena *arena, uint64_t serial) {
    DEMAND(serial >= 1 && serial <= ARENA_FILES);
    return arena->memory + FIRST_FILE + (serial - 1) * ARENA_FILE_BYTES;
}

uint8_t *arena_segment(arena *arena, int slot) {
    return arena_file(arena, bus_load_acquire(&arena->control->ring[slot].serial));
}

uint64_t arena_add_file(arena *arena, uint64_t bytes) {
    uint64_t serial = ++arena->serials;
    DEMAND(serial <= ARENA_FILES && bytes <= ARENA_FILE_BYTES);
    DEMAND(ftruncate(arena->fds[serial], (off_t)bytes) == 0);
    arena->file_bytes[serial] = bytes;
    return serial;
}

void arena_reset(arena *arena, uint32_t flags) {
    while (arena->serials) {
        uint64_t serial = arena->serials--;
        memset(arena_file(arena, serial), 0, arena->file_bytes[serial]);
        arena->file_bytes[serial] = 0;
    }
    bus_partition *control = arena->control;
    memset(control, 0, sizeof *control);
    control->magic = BUS_MAGIC_PARTITION;
    control->version = BUS_LAYOUT_VERSION;
    control->bytes = sizeof *control;
    control->bus_id = arena->bus->bus_id;
    control->topic_id = ARENA_TOPIC;
    control->flags = flags;
    control->hot_bytes = 4 * BUS_MIB;
    control->segment_bytes = BUS_MIB;
    control->offset_limit = UINT64_MAX >> 1;
    control->max_message_bytes = 2 * BUS_MIB;
    DEMAND(bus_lock_create(&control->lock) == 0);
    uint64_t serial = arena_add_file(arena, BUS_MIB);
    control->ring[0].bytes = BUS_MIB;
    control->ring[0].serial = serial;
    bus_segment_begin((bus_segment *)arena_file(arena, serial), control, 1, 0, 0, BUS_MIB);
    control->ring_numbers[0] = 1;
    control->tail = BUS_TAIL(1, BUS_DATA_START);
    control->ends[0] = (bus_end){.tail = control->tail, .max_timestamp = INT64_MIN};
    arena->log = (bus_log){.control = control, .active_slot = -1};
    arena->held = NULL;
}

/* Pages that may differ from the base image: whatever is behind a file's end is none. */
static uint32_t pages_of(const arena *arena, uint64_t serial, uint32_t *first) {
    *first = 0;
    if (serial == 0) return ARENA_CONTROL_PAGES + ARENA_BUS_PAGES;
    *first = (uint32_t)((FIRST_FILE + (serial - 1) * ARENA_FILE_BYTES) / BUS_PAGE);
    return (uint32_t)(arena->file_bytes[serial] / BUS_PAGE);
}

static uint8_t *page(uint8_t *memory, uint32_t index) {
    return memory + (uint64_t)index * BUS_PAGE;
}

void arena_set_base(arena *arena) {
    for (uint64_t serial = 0; serial <= arena->serials; serial++) {
        uint32_t first, count = pages_of(arena, serial, &first);
        memcpy(page(arena->base, first), page(arena->memory, first), (uint64_t)count * BUS_PAGE);
    }
    for (uint64_t serial = arena->serials + 1; serial <= ARENA_FILES; serial++) {
        uint8_t *unused = arena->base + FIRST_FILE + (serial - 1) * ARENA_FILE_BYTES;
        DEMAND(madvise(unused, ARENA_FILE_BYTES, MADV_DONTNEED) == 0);
    }
    arena->base_serials = arena->serials;
}

/* Two checksums of 32 bits. The thread that held the lock last, and how often a death was seen, are
 * left out: nothing is decided by them. */
static uint64_t hash_page(uint64_t hash, uint32_t index, const uint8_t *bytes) {
    uint8_t masked[BUS_PAGE];
    if (index == 0) {
        memcpy(masked, bytes, BUS_PAGE);
        pthread_mutex_t *mutex = (pthread_mutex_t *)(masked + offsetof(bus_partition, lock));
        int *owner = &mutex->__data.__owner;
        *owner = *owner != 0 && *owner < MARKS_OF_GLIBC;
        memset(masked + offsetof(bus_partition, deaths_repaired), 0, 8);
        bytes = masked;
    }
    uint64_t words[2] = {hash, index};
    uint32_t seed = bus_crc32c(0, words, sizeof words);
    return (uint64_t)bus_crc32c(seed, bytes, BUS_PAGE) << 32 |
           bus_crc32c(~seed ^ 0x9e3779b9u, bytes, BUS_PAGE);
}

image arena_take(arena *arena) {
    static uint32_t pages[ARENA_PAGES];
    image state = {.serials = arena->serials};
    DEMAND(sem_getvalue(arena->bell, &state.bell) == 0);
    state.hash = (uint64_t)state.bell << 32 | state.serials;
    for (uint64_t serial = 0; serial <= arena->serials; serial++) {
        uint32_t first, count = pages_of(arena, serial, &first);
        for (uint32_t index = first; index < first + count; index++) {
            const uint8_t *now = page(arena->memory, index);
            if (memcmp(now, page(arena->base, index), BUS_PAGE) == 0) continue;
            state.hash = hash_page(state.hash, index, now);
            pages[state.count++] = index;
        }
    }
    state.pages = malloc((state.count + 1) * sizeof *state.pages);
    state.bytes = malloc((state.count + 1) * (uint64_t)BUS_PAGE);
    DEMAND(state.pages && state.bytes);
    for (uint32_t i = 0; i < state.count; i++) {
        state.pages[i] = pages[i];
        memcpy(page(state.bytes, i), page(arena->memory, pages[i]), BUS_PAGE);
    }
    return state;
}

void arena_restore(arena *arena, const image *state) {
    for (uint64_t serial = 0; serial <= arena->serials; serial++) {
        uint32_t first, count = pages_of(arena, serial, &first);
        for (uint32_t index = first; index < first + count; index++) {
            uint8_t *now = page(arena->memory, index), *was = page(arena->base, index);
            if (memcmp(now, was, BUS_PAGE)) memcpy(now, was, BUS_PAGE);
        }
    }
    while (arena->serials > state->serials) arena->file_bytes[arena->serials--] = 0;
    for (uint32_t i = 0; i < state->count; i++)
        memcpy(page(arena->memory, state->pages[i]), page(state->bytes, i), BUS_PAGE);
    while (sem_trywait(arena->bell) == 0) continue;
    for (int i = 0; i < state->bell; i++) DEMAND(sem_post(arena->bell) == 0);
}

void image_free(image *state) {
    free(state->pages);
    free(state->bytes);
    *state = (image){0};
}
