/* lag.h: the words that hold appenders up while consumers lag. Hints: bus/lag_gate.py works them
 * out, and docs/design.md says who sees whom. None of these needs the lock.
 */
#ifndef BUS_LAG_H
#define BUS_LAG_H

#include "layout.h"

#define BUS_LAG_CLOSED ((uint64_t)1) /* a gate that lets nothing pass: look again */

/* What was worked out. The caller looks at the commits once more behind it. */
void bus_lag_set(bus_partition *control, uint64_t gate, uint64_t tail, uint64_t from);
/* The next append looks; or, if there is no limit, never again. */
void bus_lag_close(bus_partition *control, int limited);
/* A group has committed this offset, -1: none any more. 1: wake who sleeps on `space`. */
int bus_lag_moved(bus_partition *control, int64_t offset);

#endif
