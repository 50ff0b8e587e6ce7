/* atomics.h: the loads and stores that cross a process boundary, named after their memory order.
 *
 * x86-64 would forgive a missing release; aarch64 does not. So no shared word is touched by a plain
 * assignment where another process may look at it at the same time.
 */
#ifndef BUS_ATOMICS_H
#define BUS_ATOMICS_H

#include <stdint.h>

static inline uint64_t bus_load_acquire(const uint64_t *word) {
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}
static inline uint64_t bus_load_relaxed(const uint64_t *word) {
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}
static inline void bus_store_release(uint64_t *word, uint64_t value) {
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}
static inline void bus_store_relaxed(uint64_t *word, uint64_t value) {
    __atomic_store_n(word, value, __ATOMIC_RELAXED);
}
static inline uint64_t bus_fetch_add(uint64_t *word, uint64_t value) {
    return __atomic_fetch_add(word, value, __ATOMIC_ACQ_REL);
}
static inline uint64_t bus_fetch_or(uint64_t *word, uint64_t bits) {
    return __atomic_fetch_or(word, bits, __ATOMIC_SEQ_CST);
}
static inline uint64_t bus_fetch_and(uint64_t *word, uint64_t bits) {
    return __atomic_fetch_and(word, bits, __ATOMIC_SEQ_CST);
}
static inline uint64_t bus_exchange(uint64_t *word, uint64_t value) {
    return __atomic_exchange_n(word, value, __ATOMIC_SEQ_CST);
}
/* Both by acquire and release; if it fails, `expected` is what was found. */
static inline int bus_compare_exchange(uint64_t *word, uint64_t *expected, uint64_t value) {
    return __atomic_compare_exchange_n(word, expected, value, 0, __ATOMIC_ACQ_REL,
                                       __ATOMIC_ACQUIRE);
}
static inline int bus_compare_exchange32(uint32_t *word, uint32_t *expected, uint32_t value) {
    return __atomic_compare_exchange_n(word, expected, value, 0, __ATOMIC_ACQ_REL,
                                       __ATOMIC_ACQUIRE);
}
static inline uint32_t bus_load32_acquire(const uint32_t *word) {
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}
static inline uint32_t bus_load32_relaxed(const uint32_t *word) {
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}
static inline void bus_store32_release(uint32_t *word, uint32_t value) {
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}
static inline void bus_store32_relaxed(uint32_t *word, uint32_t value) {
    __atomic_store_n(word, value, __ATOMIC_RELAXED);
}
/* Orders a store before a later load of another word: the two halves of a Dekker handshake. */
static inline void bus_fence_full(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
static inline void bus_fence_acquire(void) { __atomic_thread_fence(__ATOMIC_ACQUIRE); }
static inline void bus_fence_release(void) { __atomic_thread_fence(__ATOMIC_RELEASE); }
static inline void bus_compiler_fence(void) { __atomic_signal_fence(__ATOMIC_SEQ_CST); }

static inline void bus_cpu_relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
