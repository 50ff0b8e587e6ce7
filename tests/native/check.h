/* check.h: a test is a function; a failed check names itself and ends the program. */
#ifndef CHECK_H
#define CHECK_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                              \
    do {                                                                              \
        if (!(condition)) {                                                           \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                                  \
        }                                                                             \
    } while (0)

#define CHECK_EQUAL(found, wanted)                                                          \
    do {                                                                                    \
        uint64_t found_ = (uint64_t)(found), wanted_ = (uint64_t)(wanted);                  \
        if (found_ != wanted_) {                                                            \
            fprintf(stderr, "%s:%d: %s is %" PRIu64 " (0x%" PRIx64 "), expected %" PRIu64 "\n", \
                    __FILE__, __LINE__, #found, found_, found_, wanted_);                   \
            exit(1);                                                                        \
        }                                                                                   \
    } while (0)

typedef struct {
    const char *name;
    void (*run)(void);
} check_test;

/* Each file of tests exports a list that ends with a NULL name. */
extern const check_test checksum_tests[], frame_tests[], append_tests[], ring_tests[];
extern const check_test lock_tests[], thread_tests[], wake_tests[], damage_tests[], ack_tests[];
extern const check_test keyed_tests[];

/* xorshift64*: the same numbers on every machine. */
static inline uint64_t check_random(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1dull;
}

#endif
