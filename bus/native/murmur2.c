#include "murmur2.h"

#include <string.h>

#define SEED 0x9747b28cu
#define MULTIPLIER 0x5bd1e995u

uint32_t bus_murmur2(const void *data, size_t length) {
    const uint8_t *at = data;
    uint32_t hash = SEED ^ (uint32_t)length, word;
    for (; length >= 4; at += 4, length -= 4) {
        memcpy(&word, at, 4);
        word *= MULTIPLIER;
        word ^= word >> 24;
        hash = hash * MULTIPLIER ^ word * MULTIPLIER;
    }
    if (length) {
        for (size_t i = 0; i < length; i++) hash ^= (uint32_t)at[i] << (8 * i);
        hash *= MULTIPLIER;
    }
    hash = (hash ^ hash >> 13) * MULTIPLIER;
    return hash ^ hash >> 15;
}
