#include "guard.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "atomics.h"

enum { PLACE_FREE = 0, PLACE_TAKEN = 1, PLACE_GUARDED = 2 };

typedef struct {
    uint64_t start, end; /* addresses; the end is that of the last page */
    uint32_t state;      /* PLACE_GUARDED is stored last: who sees it sees the rest */
    uint32_t mark;
    int protection;
} guarded;

static guarded places[BUS_GUARDS];
static uint32_t places_high;    /* no place at or above it was ever used */
static uint32_t places_hint;    /* where to begin to look for a free one */
static struct sigaction before; /* whose signal it is when it is not ours */
static uint32_t passing_on;     /* thread that is in the handler from before: it came back here */
static uint64_t page_bytes;

static guarded *find(uint64_t address) {
    uint32_t high = bus_load32_acquire(&places_high);
    for (uint32_t i = 0; i < high; i++) {
        guarded *place = &places[i];
        if (bus_load32_acquire(&place->state) != PLACE_GUARDED) continue; /* pairs with add */
        if (address >= place->start && address < place->end) return place;
    }
    return 0;
}

/* The mark comes first: who reads zeros finds it set. */
static int cover(uint64_t address) {
    guarded *place = find(address);
    if (!place) return 0;
    bus_store32_release(&place->mark, 1);
    void *page = (void *)(address & ~(page_bytes - 1));
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    return mmap(page, page_bytes, place->protection, flags, -1, 0) == page;
}

/* A fault comes again when the handler returns, and then it kills; what was sent is sent again. */
static void die_as_usual(int number, const siginfo_t *info) {
    struct sigaction usual;
    memset(&usual, 0, sizeof usual);
    usual.sa_handler = SIG_DFL;
    sigaction(number, &usual, 0);
    if (info->si_code <= 0) raise(number);
}

static void pass_on(int number, siginfo_t *info, void *context) {
    uint32_t me = (uint32_t)syscall(SYS_gettid);
    int was_sent = info->si_code <= 0;
    if (before.sa_handler == SIG_IGN && was_sent) return;
    /* faulthandler writes its traceback, puts us back and raises the signal again. */
    if (bus_load32_relaxed(&passing_on) == me || before.sa_handler == SIG_DFL ||
        before.sa_handler == SIG_IGN) {
        die_as_usual(number, info);
        return;
    }
    bus_store32_relaxed(&passing_on, me);
    if (before.sa_flags & SA_SIGINFO) before.sa_sigaction(number, info, context);
    else before.sa_handler(number);
    bus_store32_relaxed(&passing_on, 0);
}

static void on_sigbus(int number, siginfo_t *info, void *context) {
    int error = errno;
    int is_fault = info->si_code == BUS_ADRERR;
    if (!is_fault || !cover((uint64_t)(uintptr_t)info->si_addr)) pass_on(number, info, context);
    errno = error;
}

/* Again at every mapping: a handler that came later is put behind this one, not lost. */
static void install(void) {
    struct sigaction now, ours;
    if (sigaction(SIGBUS, 0, &now)) return;
    if (now.sa_flags & SA_SIGINFO && now.sa_sigaction == on_sigbus) return;
    page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    before = now;
    memset(&ours, 0, sizeof ours);
    ours.sa_sigaction = on_sigbus;
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigemptyset(&ours.sa_mask);
    sigaction(SIGBUS, &ours, 0);
}

static int claim(uint32_t i) {
    uint32_t is_free = PLACE_FREE;
    return __atomic_compare_exchange_n(&places[i].state, &is_free, PLACE_TAKEN, 0,
                                       __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

static void raise_high(uint32_t least) {
    uint32_t high = bus_load32_relaxed(&places_high);
    while (high < least && !__atomic_compare_exchange_n(&places_high, &high, least, 0,
                                                        __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
    }
}

int bus_guard_add(const void *base, uint64_t bytes, int writable) {
    install();
    uint32_t from = bus_load32_relaxed(&places_hint);
    for (uint32_t n = 0; n < BUS_GUARDS; n++) {
        uint32_t i = (from + n) % BUS_GUARDS;
        if (bus_load32_relaxed(&places[i].state) != PLACE_FREE || !claim(i)) continue;
        places[i].start = (uint64_t)(uintptr_t)base;
        places[i].end = places[i].start + (bytes + page_bytes - 1) / page_bytes * page_bytes;
        places[i].protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
        bus_store32_relaxed(&places[i].mark, 0);
        bus_store32_release(&places[i].state, PLACE_GUARDED); /* pairs with find */
        raise_high(i + 1);
        bus_store32_relaxed(&places_hint, i + 1);
        return (int)i;
    }
    return -1;
}

/* The hint goes back to the lowest free place, so that the handler has few to look at. */
void bus_guard_remove(int place) {
    bus_store32_release(&places[place].state, PLACE_FREE);
    if ((uint32_t)place < bus_load32_relaxed(&places_hint))
        bus_store32_relaxed(&places_hint, (uint32_t)place);
}

const uint32_t *bus_guard_mark(int place) { return &places[place].mark; }
