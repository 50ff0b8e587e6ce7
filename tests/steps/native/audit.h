/* audit.h: what must hold in every state that a death leaves, and that life goes on from it. */
#ifndef AUDIT_H
#define AUDIT_H

#include "arena.h"

typedef struct {
    uint64_t start, end; /* offsets that can be read in the hot log */
    uint64_t durable;    /* below this offset */
} extent;

/* Reads all that a reader can see, as a reader does. Notes a fault for whatever is wrong. */
extent audit_log(arena *arena);
/* A survivor takes the lock, appends, rolls around the ring; nothing is lost, stuck or leaked. */
void audit_survival(arena *arena);

#endif
