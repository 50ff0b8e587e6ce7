/* stage.h: a partition on a stage of its own: memory instead of files, and who makes them.
 *
 * The memory of a segment is allocated exactly, so that the address sanitizer sees a byte too far.
 */
#ifndef STAGE_H
#define STAGE_H

#include "lock.h"
#include "log.h"
#include "segment.h"

enum { STAGE_FILES = 4096 };

typedef struct {
    bus_partition *control;
    int shared; /* 1: survives a fork as one memory */
    uint64_t serials;
    uint8_t *files[STAGE_FILES]; /* by serial */
} stage;

typedef struct {
    uint32_t flags;
    uint64_t hot_bytes, segment_bytes, offset_limit;
    int shared;
} stage_options;

void stage_open(stage *stage, stage_options options);
void stage_close(stage *stage);
/* A process's or thread's own view. */
bus_log stage_log(stage *stage);

/* What a client does around bus_log_append: lock, map and ask for spares until it is answered. */
enum bus_append_status stage_append(stage *stage, bus_log *log, bus_record *records,
                                    uint64_t count, bus_appended *out);
enum bus_append_status stage_append_value(stage *stage, bus_log *log, const void *value,
                                          uint32_t length, uint64_t *offset);
bus_record stage_record(const void *value, uint32_t length);

/* What the broker does when a partition asks: one file, under the lock. */
void stage_tend(stage *stage, uint64_t need);

/* The memory of the file in that slot as `log` sees it. */
const uint8_t *stage_segment(stage *stage, int slot);
#define SEED(base) (((const bus_segment *)(base))->seed)
uint64_t stage_log_end(const stage *stage);

#endif
