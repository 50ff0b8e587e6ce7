#include "lag.h"

#include "atomics.h"

/* Closed first: whoever dies in between leaves a gate at which the next one looks. */
void bus_lag_set(bus_partition *control, uint64_t gate, uint64_t tail, uint64_t from) {
    bus_store_release(&control->lag_gate, BUS_LAG_CLOSED);
    bus_store_release(&control->lag_from, from);
    bus_store_release(&control->lag_tail, tail);
    bus_store_release(&control->lag_gate, gate);
    bus_fence_full(); /* pairs with the fence in moved: a later commit is seen, or it sees `from` */
}

void bus_lag_close(bus_partition *control, int limited) {
    bus_store_release(&control->lag_gate, limited ? BUS_LAG_CLOSED : 0);
}

int bus_lag_moved(bus_partition *control, int64_t offset) {
    bus_fence_full(); /* the commit is there before the words are looked at */
    if (bus_load_acquire(&control->lag_gate) == 0) return 0;
    if (offset < 0 || (uint64_t)offset < bus_load_acquire(&control->lag_from))
        bus_store_release(&control->lag_gate, BUS_LAG_CLOSED);
    return 1;
}
