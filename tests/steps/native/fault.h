/* fault.h: what went wrong, collected: a sweep goes on after it, and ends with the count. */
#ifndef FAULT_H
#define FAULT_H

#include <stdio.h>
#include <stdlib.h>

/* The harness itself failed: nothing that follows could be believed. */
#define DEMAND(condition)                                                             \
    do {                                                                              \
        if (!(condition)) {                                                           \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition); \
            exit(2);                                                                  \
        }                                                                             \
    } while (0)

/* The bus broke a promise. Where is said by fault_at; each violation is printed as a line. */
void fault_at(const char *path, int deaths, long instruction, unsigned long address);
void fault(const char *format, ...) __attribute__((format(printf, 1, 2)));
long fault_count(void);

#endif
