/* segment.h: reading a whole segment, hot or durable: scan, copy, search. */
#ifndef BUS_SEGMENT_H
#define BUS_SEGMENT_H

#include "frame.h"

typedef struct {
    uint64_t end_position;  /* where the valid frames end */
    uint64_t next_offset;   /* after the last valid record */
    int64_t max_timestamp;
    int sealed;             /* an end frame was met; end_position is where it stands */
    enum bus_frame_state error; /* why the walk stopped before `limit` */
} bus_scan;

/* The seed is an argument, because it can be computed and the header may be damaged. */

/* Walks frames from `position`, whose offset must be next_offset, checking each one's CRC. */
void bus_scan_frames(const uint8_t *base, uint64_t position, uint64_t limit, uint64_t next_offset,
                     uint64_t seed, bus_scan *out);

/* The same into private memory: each frame is copied first and the copy is checked, so what lands
 * in `target` is valid whatever a writer does to the source meanwhile. Stops before a frame that
 * does not fit `room`, and returns that frame's size (0: it did not stop for that). */
uint64_t bus_copy_frames(const uint8_t *base, uint64_t position, uint64_t limit,
                         uint64_t next_offset, uint64_t seed, uint8_t *target, uint64_t room,
                         bus_scan *out);

/* Position of the frame with that offset, or of the gap that it lies in; else 0. Damage before it
 * is passed over, as `bus_find_good` does. */
uint64_t bus_find_offset(const uint8_t *base, uint64_t limit, uint64_t base_offset, uint64_t seed,
                         uint64_t offset);

/* The first entry of a segment's index that leads to no frame, -1 if none lies. */
int bus_bad_index_entry(const uint8_t *base, uint64_t limit, uint64_t base_offset, uint64_t seed);

/* Behind damage: position of the first frame at or behind `from` that verifies in full and has an
 * offset of at least `least` and at most `most`; 0 if there is none. */
uint64_t bus_find_good(const uint8_t *base, uint64_t from, uint64_t limit, uint64_t least,
                       uint64_t most, uint64_t seed, uint64_t *offset);
/* The offset after a frame whose own is `offset`: a record counts one, a gap all that it lost. */
uint64_t bus_offset_after(const bus_frame *frame, uint64_t offset);
/* Position of the first frame whose timestamp is not below `timestamp`, or 0. */
uint64_t bus_find_time(const uint8_t *base, uint64_t limit, int64_t timestamp, uint64_t *offset,
                       int64_t *found);

/* NULL if the header can be trusted, else what is wrong with it. */
const char *bus_segment_header_error(const bus_segment *segment, uint64_t file_bytes);

#endif
