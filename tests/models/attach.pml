/* attach.pml: a client's slot, its doorbell and its place among the readers, and their reaping.
 *
 * docs/design.md, "Attach", "Pin and recycle" and the crash tables "Client attach" and "Pins,
 * readers, recycling"; bus/liveness.py, ClientSlot.take and death_probe; bus/registry.py, probe;
 * bus/native/reader.c; bus/backpressure.py, _reap. The numbers at the steps are those of "Attach".
 *
 * Two processes attach again and again to two client slots and to one place for readers, and may be
 * killed before every step; then the kernel lets go of the byte that they had locked. The broker
 * reaps, and may be killed before every step of that, too; another one takes its place. A producer
 * that waits for a reader proves it dead by itself, with what it saw of it some time before. No
 * live client loses a slot, a doorbell or a place, no two have the same one, and once nobody dies
 * any more nothing stays taken.
 *
 * Left out: the order of memory (the litmus tests have it; byte locks are system calls), groups
 * (groups.pml; a member is freed at the same step and by the same proof as a reader), clients that
 * fork, and generations that somebody overwrites.
 */
#ifndef LIVES
#define LIVES 2 /* attachments that are tried */
#endif
#ifndef DEATHS
#define DEATHS 2
#endif
#ifndef SLOTS
#define SLOTS 2
#endif
#define CLIENTS 2
#define BROKER 9 /* who holds a byte; clients are 1 and 2 */
#define NONE 0
/* One step, or a death before it. */
#define STEP(action) atomic { if :: deaths > 0 -> deaths--; goto died :: true fi; action }

byte held[SLOTS];       /* byte locks of clients.lock */
bool attached[SLOTS];   /* state 1 */
byte generation[SLOTS], next_generation = 1;
byte bell[LIVES + 1];   /* by generation: client slot + 1 while the doorbell exists */

byte owner;             /* the place: client slot + 1, */
bool claimed;           /* with the bit that says it is not filled in yet, */
byte place_generation;  /* and whose it is */
byte high;              /* readers_high */
bool locked;            /* the partition's lock: whoever reaps holds it */

byte lives = LIVES, deaths = DEATHS, running = CLIENTS;
byte holder[SLOTS];     /* ghost: the live client that believes to have the slot */

inline unlink_bell(which) { /* the name is made of the slot and its generation */
    d_step {
        if
        :: bell[generation[which]] == which + 1 -> bell[generation[which]] = 0
        :: else
        fi
    }
}

active [CLIENTS] proctype Client() {
    byte slot, mine;
    bool has_place;
again:
    skip;
    d_step { slot = 0; mine = 0; has_place = false };
    if
    :: atomic { lives > 0 -> lives-- }
    :: lives == 0 -> goto done
    fi;
    do /* 3 */
    :: slot == SLOTS -> goto again /* TooManyClientsError */
    :: slot < SLOTS && attached[slot] -> slot++
    :: slot < SLOTS && !attached[slot] ->
       if
       :: atomic { held[slot] == NONE -> held[slot] = _pid + 1 };
#ifdef BREAK_SECOND_LOOK_OF_TAKER
          break
#else
          if
          :: !attached[slot] -> break
          :: attached[slot] -> held[slot] = NONE; slot++
          fi
#endif
       :: held[slot] != NONE -> slot++
       fi
    od;
    atomic {
        assert(holder[slot] == NONE); /* no two in one slot */
        holder[slot] = _pid + 1
    };
    STEP(unlink_bell(slot));
    STEP(d_step { mine = next_generation; next_generation++ });
#ifdef BREAK_NAME_BEFORE_BELL
    STEP(bell[mine] = slot + 1);
    STEP(generation[slot] = mine);
#else
    STEP(generation[slot] = mine);
    STEP(bell[mine] = slot + 1);
#endif
    STEP(attached[slot] = true);

    /* bus_reader_attach */
    if
    :: owner == NONE ->
#ifndef BREAK_HIGH_BEFORE_OWNER
       STEP(high = 1);
#endif
       if
       :: atomic { owner == NONE -> owner = slot + 1;
#ifndef BREAK_CLAIMED_BIT
                   claimed = true
#endif
          };
#ifdef BREAK_HIGH_BEFORE_OWNER
          STEP(high = 1);
#endif
          STEP(place_generation = mine);
          STEP(d_step { claimed = false; has_place = true })
#ifdef BREAK_COMPARE_AND_SWAP
       :: d_step { owner != NONE -> owner = slot + 1; place_generation = mine; has_place = true }
#else
       :: owner != NONE
#endif
       fi
    :: owner != NONE /* another place; there is none here */
    fi;

    STEP(skip);
    d_step { /* what was taken away from somebody who lives stays away: one look is enough */
        assert(held[slot] == _pid + 1 && holder[slot] == _pid + 1);
        assert(attached[slot] && generation[slot] == mine && bell[mine] == slot + 1);
        assert(!has_place || (owner == slot + 1 && !claimed && place_generation == mine));
        if
        :: has_place -> owner = NONE
        :: else
        fi
    };
    STEP(unlink_bell(slot));
    STEP(attached[slot] = false);
    STEP(d_step { holder[slot] = NONE; held[slot] = NONE });
    goto again;
died:
    skip;
    d_step { /* the kernel */
        if
        :: held[slot] == _pid + 1 -> held[slot] = NONE; holder[slot] = NONE
        :: else
        fi
    };
    goto again;
done:
    running--
}

inline free_place(client, of_generation, claims) { /* bus_readers_reap */
    atomic { !locked -> locked = true };
    if
    :: high > 0 && owner == client + 1 ->
       if
       :: d_step { claimed && claims -> owner = NONE; claimed = false } /* one word */
#ifdef BREAK_GENERATION_OF_READER
       :: !claimed -> owner = NONE
#else
       :: !claimed && place_generation == of_generation -> owner = NONE
#endif
       :: else
       fi
    :: else
    fi;
    locked = false
}

/* Registry.probe. */
active proctype Broker() {
    byte slot, found;
    bool is_last;
again:
    do
    :: running > 0 -> slot = 0; goto probe
    :: running > 0 -> slot = SLOTS - 1; goto probe
    :: running == 0 -> break
    od;
    is_last = true; /* nobody is left: one look at each slot is enough */
    slot = 0;
last:
    if
    :: slot < SLOTS -> goto probe
    :: else -> goto done
    fi;
probe:
    if
    :: !attached[slot] -> goto next
    :: attached[slot] -> found = generation[slot]
    fi;
    if
    :: held[slot] != NONE -> goto next
    :: held[slot] == NONE
    fi;
#ifndef BREAK_LOCK_OF_REAPER
    if
    :: held[slot] != NONE -> goto next
    :: atomic { held[slot] == NONE -> held[slot] = BROKER }
    fi;
#endif
#ifndef BREAK_SECOND_LOOK_OF_REAPER
    if
    :: !attached[slot] -> goto unlock
    :: attached[slot] -> found = generation[slot]
    fi;
#endif
#ifdef BREAK_READERS_BEFORE_SLOT
    STEP(attached[slot] = false);
#endif
#ifdef BREAK_CLAIMS
    STEP(skip);
    free_place(slot, found, false);
#else
    STEP(skip);
    free_place(slot, found, true);
#endif
    STEP(unlink_bell(slot));
    STEP(attached[slot] = false);
    STEP(skip);
unlock:
    if
    :: held[slot] == BROKER -> held[slot] = NONE
    :: else
    fi;
next:
    if
    :: is_last -> slot++; goto last
    :: else -> goto again
    fi;
died:
    skip;
    d_step {
        if
        :: slot < SLOTS && held[slot] == BROKER -> held[slot] = NONE
        :: else
        fi;
        slot = 0; found = 0; is_last = false
    };
    goto again;
done:
    skip;
    d_step {
        assert(owner == NONE && !claimed);
        for (slot : 0 .. SLOTS - 1) { assert(!attached[slot] && held[slot] == NONE) }
        for (found : 1 .. LIVES) { /* of a taker that died early: the next one can find it */
            assert(bell[found] == 0 || generation[bell[found] - 1] == found)
        }
    }
}

/* Backpressure._reap: a producer that waits for a reader; what it has seen may be long over. */
active proctype Producer() {
    byte client, of_generation;
    if
    :: atomic { owner != NONE && !claimed -> client = owner - 1 } /* one load */
    :: running == 0 -> goto done
    fi;
    of_generation = place_generation;
    if
    :: held[client] == NONE -> free_place(client, of_generation, false)
    :: held[client] != NONE
    fi;
done:
    skip
}
