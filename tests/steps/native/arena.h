/* arena.h: the shared memory of one partition, as real files, with images of it to go back to.
 *
 * All of it stands in one range of addresses, page by page, so that a state is what differs from
 * the base image: a few pages. The files have the names that a hot directory gives them, so that
 * `bus.check` and the Python shell can look at a state as well.
 */
#ifndef ARENA_H
#define ARENA_H

#include "log.h"
#include "ring.h"
#include "wait.h"

enum {
    ARENA_FILES = 24,
    ARENA_FILE_BYTES = 2 * 1024 * 1024, /* room for one; a file has 1 MiB unless more is needed */
    ARENA_TOPIC = 7,
    ARENA_SLEEPER = 70, /* client slots: who sleeps, who dies, who reads */
    ARENA_VICTIM = 5,
    ARENA_READER = 6,
};
#define ARENA_CONTROL_PAGES (sizeof(bus_partition) / BUS_PAGE)
#define ARENA_BUS_PAGES (sizeof(bus_control) / BUS_PAGE)
#define ARENA_PAGES \
    (ARENA_CONTROL_PAGES + ARENA_BUS_PAGES + ARENA_FILES * (ARENA_FILE_BYTES / BUS_PAGE))

typedef struct {
    uint8_t *memory; /* ARENA_PAGES pages */
    uint8_t *base;   /* the base image of them, private */
    bus_partition *control;
    bus_control *bus;
    int fds[ARENA_FILES + 1];             /* of the segment files, by serial */
    uint64_t file_bytes[ARENA_FILES + 1]; /* 0: the broker has not made it */
    uint64_t serials, base_serials;
    bus_log log;
    bus_bells bells;
    sem_t *bell;       /* of the sleeper */
    bus_reader *held;  /* a reader whose pinned segment must keep its bytes */
    uint64_t held_serial;
    uint32_t held_crc;
} arena;

typedef struct { /* what differs from the base image */
    uint64_t hash;   /* of all that a survivor can see; who died is left out */
    uint32_t count;
    uint32_t *pages;
    uint8_t *bytes;
    uint64_t serials;
    int bell;        /* posts */
    int deaths;      /* that led to it */
} image;

void arena_open(arena *arena, const char *directory, uint64_t bus_id);
void arena_close(arena *arena);
/* An empty partition; whatever was there before is wiped. */
void arena_reset(arena *arena, uint32_t flags);
uint64_t arena_add_file(arena *arena, uint64_t bytes); /* returns its serial */
uint8_t *arena_file(arena *arena, uint64_t serial);
uint8_t *arena_segment(arena *arena, int slot);

void arena_set_base(arena *arena);
image arena_take(arena *arena);
void arena_restore(arena *arena, const image *state);
void image_free(image *state);

#endif
