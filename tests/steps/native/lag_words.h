/* lag_words.h: two gates that the paths write over one another, and what must hold in between. */
#ifndef LAG_WORDS_H
#define LAG_WORDS_H

#include "layout.h"

enum { LAG_ALLOWS = 5 }; /* records of a batch that the gate in its middle lets pass */

typedef struct {
    uint64_t gate, tail, from;
} lag_words;

/* Consumers that stood at 3 stand at 9 now, and a limit of bytes is new. */
extern const lag_words lag_words_old, lag_words_new;

void lag_words_write(bus_partition *control, const lag_words *words);
/* A gate that is not closed stands with the words that belong to it. */
void lag_words_check(const bus_partition *control);

#endif
