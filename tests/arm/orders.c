/* orders.c: each function of atomics.h by itself, to look at the instructions that it becomes. */
#include "atomics.h"
uint64_t load_acquire(const uint64_t *w) { return bus_load_acquire(w); }
uint64_t load_relaxed(const uint64_t *w) { return bus_load_relaxed(w); }
void store_release(uint64_t *w, uint64_t v) { bus_store_release(w, v); }
void store_relaxed(uint64_t *w, uint64_t v) { bus_store_relaxed(w, v); }
uint64_t fetch_add(uint64_t *w, uint64_t v) { return bus_fetch_add(w, v); }
uint64_t fetch_or(uint64_t *w, uint64_t v) { return bus_fetch_or(w, v); }
uint64_t fetch_and(uint64_t *w, uint64_t v) { return bus_fetch_and(w, v); }
uint64_t exchange(uint64_t *w, uint64_t v) { return bus_exchange(w, v); }
int compare_exchange(uint64_t *w, uint64_t *e, uint64_t v) { return bus_compare_exchange(w, e, v); }
int compare_exchange32(uint32_t *w, uint32_t *e, uint32_t v) {
    return bus_compare_exchange32(w, e, v);
}
uint32_t load32_acquire(const uint32_t *w) { return bus_load32_acquire(w); }
uint32_t load32_relaxed(const uint32_t *w) { return bus_load32_relaxed(w); }
void store32_release(uint32_t *w, uint32_t v) { bus_store32_release(w, v); }
void store32_relaxed(uint32_t *w, uint32_t v) { bus_store32_relaxed(w, v); }
void fence_full(void) { bus_fence_full(); }
void fence_acquire(void) { bus_fence_acquire(); }
void fence_release(void) { bus_fence_release(); }
void cpu_relax(void) { bus_cpu_relax(); }
