/* paths.h: the table of operations that processes die in. A new operation is one more row. */
#ifndef PATHS_H
#define PATHS_H

#include "tracer.h"

typedef struct {
    const char *name;
    uint32_t flags;            /* of the topic */
    void (*set_up)(arena *);   /* from an empty log to where the operation begins */
    operation *operate;        /* what the victim does */
    uint64_t adds;             /* records that the operation publishes, all at once */
    int retires;               /* 1: it may take the oldest segments out of the window */
    long stride;               /* 0: kills everywhere; else in the middle, every so many */
} path;

/* Ends with a NULL name. */
extern const path paths[];
/* What a survivor does first: take the lock, repair it, append one record. */
extern const path next_append;

#endif
