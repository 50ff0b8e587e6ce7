/* recycle.pml: a segment file is used again while readers hold what is in it.
 *
 * docs/design.md, "Pin and recycle", "bus_reader" and the crash table "Pins, readers, recycling";
 * bus/native/log.c, bus_pin and bus_is_pinned; bus/native/ring.c, retire and bus_ring_next;
 * bus/native/cursor.pxi, pin_hot; bus/native/partition.pxi, surplus, add_spare, reap_readers.
 *
 * Two readers, a roller and the broker. Readers and roller may die before every step; another one
 * takes the dead one's place. The one store of each side before its fence waits in a store buffer,
 * for as long as no fence forbids it: that is the weak order which x86, too, has.
 *
 * Left out: who may retire (a segment may go at once), frames, positions, the durable tier. The
 * partition's lock is a robust one (see append.pml).
 */
#ifndef READS
#define READS 2   /* pins that both readers try to take, together */
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#define ROLLS 2
#define READERS 2
#define SLOTS 2
#define FILES 5   /* serials 1..4 */
#define NOBODY 9

byte number[SLOTS], serial[SLOTS]; /* of the ring */
byte content[FILES];               /* of each file: the segment that its bytes belong to */
bool owned[READERS], alive[READERS], pins[READERS * SLOTS];
byte newest, serials, reads = READS, deaths = DEATHS;

/* The store buffers, of one store each. */
byte waiting_pin[READERS] = NOBODY; /* the slot that a reader is about to be seen to pin */
byte waiting_clear = NOBODY;        /* the slot whose number the roller is about to clear */
byte rolling = 1, reading = READERS;
bool locked;                       /* the partition's lock; freed by a death */

#define FREE(slot) (serial[slot] && number[slot] == 0 && !PINNED(slot))
#define PINNED(slot) ((owned[0] && pins[slot]) || (owned[1] && pins[SLOTS + slot]))

proctype Memory() {
    do
    :: d_step { waiting_pin[0] != NOBODY -> pins[waiting_pin[0]] = true; waiting_pin[0] = NOBODY }
    :: d_step { waiting_pin[1] != NOBODY -> pins[SLOTS + waiting_pin[1]] = true;
                waiting_pin[1] = NOBODY }
    :: d_step { waiting_clear != NOBODY -> number[waiting_clear] = 0; waiting_clear = NOBODY }
    :: rolling == 0 && reading == 0 -> break
    od
}

inline may_die() {
    if
    :: atomic { deaths > 0 -> deaths--; goto died }
    :: true
    fi
}

proctype Reader(byte me) {
    byte slot, wanted, file;
    bool pinned;
attach: /* a slot that is free has no owner, whatever else it says */
    atomic { !owned[me] -> alive[me] = true; pinned = false }
    d_step { pins[me * SLOTS] = false; pins[me * SLOTS + 1] = false; owned[me] = true }
    do
    :: atomic { reads == 0 -> alive[me] = false; owned[me] = false; reading--; break }
    :: atomic { reads > 0 -> reads--; slot = 0 }
       if /* "Read", step 1: a number that it finds in the ring */
       :: slot = 0
       :: slot = 1
       fi;
       wanted = number[slot];
       if
       :: wanted == 0 -> goto next
       :: else
       fi;
       waiting_pin[me] = slot; /* 1: the pin */
       may_die();
#ifndef BREAK_FENCE_OF_READER
       waiting_pin[me] == NOBODY; /* 2 */
#endif
#ifndef BREAK_SECOND_LOOK
       if /* 3: still my number? */
       :: number[slot] != wanted -> goto unpin
       :: else
       fi;
#endif
       may_die();
       file = serial[slot]; /* mapped: stays readable after it has left the ring */
       if
       :: file == 0 -> goto unpin
#ifndef BREAK_SECOND_LOOK
       :: file != 0 && number[slot] != wanted -> goto unpin
#endif
       :: else
       fi;
       assert(content[file] == wanted); /* it reads, now */
       may_die();
       assert(content[file] == wanted); /* and later */
unpin:
       atomic { waiting_pin[me] == NOBODY -> pins[me * SLOTS + slot] = false }
next:
       slot = 0; wanted = 0; file = 0
    od;
    goto done;
died: /* the kernel has written back what it stored, and frees its lock: that is the proof */
    atomic { waiting_pin[me] == NOBODY -> alive[me] = false; slot = 0; wanted = 0; file = 0 }
    goto attach;
done:
    skip
}

proctype Roller() {
    byte slot, rolls = ROLLS;
again:
    if
    :: rolls == 0 -> goto done
    :: atomic { rolls > 0 && !locked -> locked = true; slot = NOBODY }
    fi;
    d_step { /* prepared by a roller that died, or a file without a number that nobody holds */
        if
        :: number[0] == newest + 1 -> slot = 0
        :: number[1] == newest + 1 -> slot = 1
        :: else ->
           if
           :: FREE(0) -> slot = 0
           :: !FREE(0) && FREE(1) -> slot = 1
           :: else
           fi
        fi
    }
    if
    :: slot != NOBODY -> goto begin
    :: else
    fi;
    d_step { /* the oldest sealed segment gives up its place */
        if
        :: number[0] && number[0] != newest -> slot = 0
        :: number[1] && number[1] != newest -> slot = 1
        :: else
        fi
    }
    if
    :: slot == NOBODY -> /* nothing but to wait for the broker */
       locked = false;
       FREE(0) || FREE(1);
       goto again
    :: else
    fi;
#ifdef BREAK_NUMBER_BEFORE_LOOK
    if
    :: PINNED(slot) -> atomic { locked = false; !PINNED(slot) -> goto again }
    :: else
    fi;
    waiting_clear = slot;
    waiting_clear == NOBODY;
    goto begin;
#endif
    waiting_clear = slot; /* 1: its number is cleared */
    may_die();
#ifndef BREAK_FENCE_OF_ROLLER
    waiting_clear == NOBODY; /* 2 */
#endif
    may_die();
#ifndef BREAK_LOOK_AT_PINS
    if /* 3: anybody? */
    :: PINNED(slot) -> atomic { waiting_clear == NOBODY -> locked = false; goto again }
    :: else
    fi;
#endif
begin:
    may_die();
    content[serial[slot]] = newest + 1; /* the header of the new segment */
    may_die();
    atomic { waiting_clear == NOBODY -> number[slot] = newest + 1 } /* release */
    may_die(); /* the next roller takes the prepared slot and begins it anew */
    d_step { newest++; rolls-- } /* the tail */
    may_die();
    locked = false;
    goto again;
died:
    atomic { waiting_clear == NOBODY -> locked = false }
    goto again;
done:
    rolling--
}

proctype Broker() {
    do
    /* a pinned file that holds no segment leaves the ring; who has it mapped keeps its bytes */
    :: d_step { !locked && serial[0] && number[0] == 0 && PINNED(0) -> serial[0] = 0 }
    :: d_step { !locked && serial[1] && number[1] == 0 && PINNED(1) -> serial[1] = 0 }
    /* a new one comes into a slot that nobody holds */
    :: d_step { !locked && serial[0] == 0 && !PINNED(0) && serials < FILES - 1 ->
                serials++; serial[0] = serials }
    :: d_step { !locked && serial[1] == 0 && !PINNED(1) && serials < FILES - 1 ->
                serials++; serial[1] = serials }
#ifdef BREAK_PROOF_OF_DEATH
    :: d_step { owned[0] && deaths > 0 -> deaths--; owned[0] = false }
#else
    :: d_step { owned[0] && !alive[0] -> owned[0] = false } /* reap_readers: owner 0 */
#endif
    :: d_step { owned[1] && !alive[1] -> owned[1] = false }
    :: rolling == 0 && reading == 0 -> break
    od
}

init {
    atomic {
        serials = 2; serial[0] = 1; serial[1] = 2;
        number[0] = 1; number[1] = 2; content[1] = 1; content[2] = 2; newest = 2;
        run Memory(); run Roller(); run Broker(); run Reader(0); run Reader(1)
    }
}
