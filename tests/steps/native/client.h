/* client.h: what the Cython shell does around the core: hotlog.pxi, record.pxi, partition.pxi.
 *
 * Whoever calls is a client: the victim, or a survivor. `client_tend` and `client_reap` are the
 * broker's part.
 */
#ifndef CLIENT_H
#define CLIENT_H

#include "arena.h"

void client_lock(arena *arena);
void client_unlock(arena *arena);
enum bus_append_status client_append(arena *arena, bus_record *records, uint64_t count,
                                     bus_appended *out);
enum bus_append_status client_roll(arena *arena);

bus_reader *client_attach(arena *arena, int client, int must_wait, uint64_t position);
void client_detach(arena *arena, bus_reader *reader);
void client_publish(arena *arena, bus_reader *reader, uint64_t position);

void client_tend(arena *arena, uint64_t need);
int client_reap(arena *arena, int client);

#define CLIENT_NULL UINT32_MAX
/* A record whose value tells the offset that it is meant for: key_length 0 is a null key, length
 * CLIENT_NULL a null value. Its bytes stand in a static buffer, until 64 records later. */
bus_record client_record(uint64_t offset, uint32_t key_length, uint32_t length);
int client_value_is(const uint8_t *value, uint64_t length, uint64_t offset);

extern int client_clock_stands; /* 1: clock_gettime returns one fixed moment */

#endif
