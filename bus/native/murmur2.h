/* murmur2.h: the hash by which Kafka's own producers spread keys (Austin Appleby's MurmurHash2,
 * with Kafka's seed). For programs that must put a key where a Kafka producer puts it. */
#ifndef BUS_MURMUR2_H
#define BUS_MURMUR2_H

#include <stddef.h>
#include <stdint.h>

uint32_t bus_murmur2(const void *data, size_t length);

#endif
