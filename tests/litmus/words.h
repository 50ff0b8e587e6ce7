/* words.h: stands in for bus/native/atomics.h, so that a checker sees each load and store.
 *
 * The core's own C files are compiled with this header in front (its guard keeps the real one out).
 * What each function must do is what the function of the same name in atomics.h says; weak.cpp
 * brings the words before Relacy, which keeps every value that the C11 memory model may return.
 */
#ifndef BUS_ATOMICS_H
#define BUS_ATOMICS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
uint64_t bus_load_acquire(const uint64_t *word);
uint64_t bus_load_relaxed(const uint64_t *word);
void bus_store_release(uint64_t *word, uint64_t value);
void bus_store_relaxed(uint64_t *word, uint64_t value);
uint64_t bus_fetch_add(uint64_t *word, uint64_t value);
uint64_t bus_fetch_or(uint64_t *word, uint64_t bits);
uint64_t bus_fetch_and(uint64_t *word, uint64_t bits);
uint64_t bus_exchange(uint64_t *word, uint64_t value);
int bus_compare_exchange(uint64_t *word, uint64_t *expected, uint64_t value);
int bus_compare_exchange32(uint32_t *word, uint32_t *expected, uint32_t value);
uint32_t bus_load32_acquire(const uint32_t *word);
uint32_t bus_load32_relaxed(const uint32_t *word);
void bus_store32_release(uint32_t *word, uint32_t value);
void bus_store32_relaxed(uint32_t *word, uint32_t value);
void bus_fence_full(void);
void bus_fence_acquire(void);
void bus_fence_release(void);
void bus_cpu_relax(void);
#ifdef __cplusplus
}
#endif

#endif
