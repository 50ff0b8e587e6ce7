/* log.h: one partition's hot log: append, roll, read positions, pins.
 *
 * Append (under the lock): check room, copy the record behind the tail, write the `end` that
 * belongs to the new tail, store-release the tail. Killed before that last store, the record never
 * existed; killed after it, the record is whole. Nothing has to be repaired in either case.
 *
 * Read (no lock, no store): acquire-load the tail, read frames below it. The acquire pairs with the
 * store-release in `publish`.
 *
 * Recycle: a segment file that has left the hot window is reused when no reader pins it. The reader
 * sets its pin, fences, and looks again at the segment number; the recycler clears the number,
 * fences, and looks at the pins. One of the two always sees the other.
 */
#ifndef BUS_LOG_H
#define BUS_LOG_H

#include "frame.h"
#include "layout.h"

typedef struct { /* this process's view of a partition; the shell owns the mappings */
    bus_partition *control;
    uint8_t *maps[BUS_RING_SLOTS];
    uint64_t map_serials[BUS_RING_SLOTS]; /* 0: not mapped */
    uint64_t map_bytes[BUS_RING_SLOTS];
    const uint32_t *map_marks[BUS_RING_SLOTS]; /* of the guard: not 0 when a file was truncated */
    int active_slot; /* where the active segment was seen last */
    uint64_t seed_number, seed; /* of the active segment: what its header must say */
    uint64_t attention_number; /* segment for which the broker was last asked to look */
} bus_log;

enum bus_append_status {
    BUS_APPENDED = 0,
    BUS_NEED_MAP,       /* detail: ring slot to map, then try again */
    BUS_WAIT_SPARE,     /* detail: bytes of the hot file that the broker must make */
    BUS_WAIT_REPLICA,   /* the replica has not made the oldest segment durable yet */
    BUS_WAIT_READER,    /* detail: index of the reader that has not passed the oldest segment */
    BUS_WAIT_OFFSETS,   /* the broker must raise offset_limit */
    BUS_WAIT_LAG,       /* whoever appends must look how far the consumers are */
    BUS_TOPIC_DELETED,
    BUS_BROKEN,         /* an invariant of shared memory does not hold */
    BUS_TORN,           /* the file of the active segment is not what it was: never returned */
};

typedef struct {
    uint64_t done;         /* records appended so far */
    uint64_t last_offset;  /* of the last one appended */
    int64_t last_timestamp;
    uint64_t detail;
    int attention;         /* 1: tell the broker to look after this ring */
} bus_appended;

/* All of these expect the lock to be held. */
enum bus_append_status bus_log_append(bus_log *log, bus_record *records, uint64_t count,
                                      bus_appended *out);
enum bus_append_status bus_log_roll(bus_log *log, uint64_t need, bus_appended *out);
void bus_log_retire_before(bus_partition *control, uint64_t offset);

/* Where the log ends now, consistent, without the lock. Returns the tail; 0 if no end belongs to
 * it: then shared memory was overwritten. */
uint64_t bus_log_end(const bus_partition *control, uint64_t *next_offset);
uint64_t bus_hot_start(const bus_partition *control);
int bus_slot_of(const bus_partition *control, uint64_t number);

/* Makes the segment readable in place until bus_unpin: 0, or -1 when it has left the ring. */
int bus_pin(bus_partition *control, bus_reader *reader, int slot, uint64_t number);
void bus_unpin(bus_reader *reader, int slot);

int bus_is_pinned(const bus_partition *control, int slot);

void bus_segment_begin(bus_segment *segment, const bus_partition *control, uint64_t number,
                       uint64_t base_offset, uint64_t previous_end, uint64_t bytes);
uint64_t bus_segment_seed(uint64_t bus_id, uint64_t topic_id, uint32_t partition, uint64_t number);

#define BUS_TAIL(number, position) ((uint64_t)(number) << 32 | (uint32_t)(position))
#define BUS_TAIL_NUMBER(tail) ((tail) >> 32)
#define BUS_TAIL_POSITION(tail) ((tail) & 0xffffffffu)
#define BUS_MIB ((uint64_t)1 << 20)

#endif
