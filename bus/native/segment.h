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

/* Walks frames from `position`, whose offset must be next_offset, checking each one's CRC. */
void bus_scan_frames(const uint8_t *base, uint64_t position, uint64_t limit, uint64_t next_offset,
                     bus_scan *out);

/* The same into private memory: each frame is copied first and the copy is checked, so what lands
 * in `target` is valid whatever a writer does to the source meanwhile. Stops before a frame that
 * does not fit `room`, and returns that frame's size (0: it did not stop for that). */
uint64_t bus_copy_frames(const uint8_t *base, uint64_t position, uint64_t limit,
                         uint64_t next_offset, uint8_t *target, uint64_t room, bus_scan *out);

/* Position of the frame with that offset, or 0. */
uint64_t bus_find_offset(const uint8_t *base, uint64_t limit, uint64_t offset);
/* Position of the first frame whose timestamp is not below `timestamp`, or 0. */
uint64_t bus_find_time(const uint8_t *base, uint64_t limit, int64_t timestamp, uint64_t *offset,
                       int64_t *found);

/* NULL if the header can be trusted, else what is wrong with it. */
const char *bus_segment_header_error(const bus_segment *segment, uint64_t file_bytes);

#endif
