/* tracer.h: a child process under ptrace that is killed before any instruction of an operation.
 *
 * A recording single-steps through the operation once and notes the address of every instruction.
 * To kill before instruction n, a later child is brought there by a breakpoint at an address that
 * the recording has seen seldom, and by single steps from there: the child is the same image, so it
 * takes the same way. That it did is checked by the address where it arrives. A repeated string
 * instruction (rep stos, rep movs) may be interrupted after each round: there the child gets the
 * number of rounds to do in its count register, which leaves the same memory.
 *
 * Knows x86-64. (An aarch64 loop around load-exclusive never ends when it is single-stepped.)
 */
#ifndef TRACER_H
#define TRACER_H

#include <sys/types.h>

#include "arena.h"

typedef void operation(arena *arena);

typedef struct {
    unsigned long *addresses; /* of instruction i, before it is executed */
    long *breakpoints;        /* best instruction to stop at on the way to i */
    long *passes;             /* how often that address is passed before */
    long *rounds;             /* of a repeated string instruction that are done; 0 elsewhere */
    long count, room;
} recording;

/* A child that stands right before the first instruction of the operation. */
pid_t tracer_start(arena *arena, operation *operate);
/* Steps through the whole operation; the child has ended when it returns. */
void tracer_record(arena *arena, operation *operate, recording *out);
/* A child killed by SIGKILL before instruction `n`, 0 to `count`: at `count` it had done all. */
void tracer_kill(arena *arena, operation *operate, const recording *recorded, long n, int stepping);
void recording_free(recording *recorded);

extern long tracer_steps; /* single steps taken in all */

#endif
