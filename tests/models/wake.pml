/* wake.pml: whoever sleeps is woken: no store falls between the last look and the sleep.
 *
 * docs/design.md, "Wait and wake"; bus/native/wait.c, bus_sleeper_set, bus_sleeper_clear and
 * bus_wake_sleepers; bus/native/wait.h, bus_wake; bus/native/hotlog.pxi, wait_word. The numbers at
 * the steps are those of "Wait and wake".
 *
 * Two sleepers, who share a word of the bitmap, each wait for the first value and then for the
 * second; two wakers store the values. Nobody's wait has a time limit here, so a lost
 * wake-up is a deadlock. A waker may be killed after its store: then, and only then, the time limit
 * of a wait has to do its work. The store before each fence waits in a store buffer; read-modify-
 * write instructions take effect at once, and empty the buffer only as far as the code says so.
 *
 * Left out: the doorbells' names, spurious wake-ups by other causes, several threads at one bell.
 */
#ifndef SLEEPERS
#define SLEEPERS 2
#endif
#define VALUES 2
#define BIT_OF(slot) (1 << slot)
#ifndef DEATHS
#define DEATHS 1
#endif

byte value;                 /* the word that all wait for */
byte word;                  /* the one word of the bitmap, */
bit summary;                /* and its bit in the summary */
byte bells[SLEEPERS];
byte deaths = DEATHS;
bool one_died;
bool locked;                /* the lock under which the value is stored */

byte waiting_value;         /* store buffer of the waker that stored last; 0: empty */
byte waiting_bit[SLEEPERS]; /* store buffer of a sleeper: 1 its word, 2 its summary bit */
byte sleeping = SLEEPERS, waking = VALUES;

proctype Memory() {
    do
    :: d_step { waiting_value != 0 -> value = waiting_value; waiting_value = 0;
                locked = false }
    :: sleeping == 0 && waking == 0 -> break
    od
}

/* The buffer of each sleeper: its two bits come into memory in the order of the code. */
proctype SleeperMemory(byte slot) {
    do
    :: waiting_bit[slot] == 1 ->
#ifdef BREAK_WORD_BEFORE_SUMMARY
       d_step { summary = 1; waiting_bit[slot] = 2 }
#else
       d_step { word = word | BIT_OF(slot); waiting_bit[slot] = 2 }
#endif
    :: waiting_bit[slot] == 2 ->
#ifdef BREAK_WORD_BEFORE_SUMMARY
       d_step { word = word | BIT_OF(slot); waiting_bit[slot] = 0 }
#else
       d_step { summary = 1; waiting_bit[slot] = 0 }
#endif
    :: sleeping == 0 && waking == 0 -> break
    od
}

proctype Sleeper(byte slot) {
    byte wanted;
    for (wanted : 1 .. VALUES) {
        do
        :: value >= wanted -> break
        :: value < wanted ->
           waiting_bit[slot] = 1; /* 1 */
#ifndef BREAK_FENCE_OF_SLEEPER
           waiting_bit[slot] == 0; /* 2 */
#endif
#ifndef BREAK_SECOND_LOOK
           if /* 3 */
           :: value >= wanted -> break
           :: else
           fi;
#endif
           if /* 4 */
           :: atomic { bells[slot] > 0 -> bells[slot]-- }
#ifndef BREAK_TIME_LIMIT
           :: one_died -> skip /* the time limit of the wait */
#endif
           fi
        od;
        atomic { /* bus_sleeper_clear: the summary bit stays, it may be a neighbour's, too */
            waiting_bit[slot] == 0;
            word = word & ~BIT_OF(slot);
#ifdef BREAK_SUMMARY_STAYS
            summary = 0
#endif
        }
    }
    sleeping--
}

inline may_die() {
    if
    :: atomic { deaths > 0 -> deaths--; one_died = true; goto died }
    :: true
    fi
}

inline ring(slot) {
    if
    :: found & BIT_OF(slot) ->
       may_die();
       d_step {
           if
           :: bells[slot] < 2 -> bells[slot]++ /* a bell that counts two is not posted again */
           :: else
           fi
       }
    :: else
    fi
}

proctype Waker() {
    byte found;
    atomic { !locked -> locked = true }
    waiting_value = value + 1; /* 1, and the unlock behind it in the store buffer */
#ifndef BREAK_FENCE_OF_WAKER
    waiting_value == 0; /* 2: the other waker cannot have the lock before */
#endif
    may_die();
    if
    :: summary == 0 -> goto done
    :: else
    fi;
#ifdef BREAK_SUMMARY_BEFORE_WORDS
    atomic { found = word; word = 0 };
    summary = 0;
#else
    summary = 0; /* 3: first the summary */
    may_die();
    atomic { found = word; word = 0 };
#endif
    may_die();
    ring(0); /* 4 */
    ring(1);
done:
died:
    waking--
}

init {
    byte slot;
    atomic {
        run Memory();
        for (slot : 0 .. SLEEPERS - 1) { run Sleeper(slot); run SleeperMemory(slot) }
        for (slot : 1 .. VALUES) { run Waker() }
    }
}
