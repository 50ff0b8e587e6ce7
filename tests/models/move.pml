/* move.pml: a bus that leaves a spoiled hot directory loses and doubles nothing.
 *
 * docs/design.md, "Moving to another hot directory"; bus/supervisor.py, _open_hot, _move_if_spoiled
 * and _leave; bus/hotdir.py, open_or_create, _make_way and publish; bus/eviction.py, abandon;
 * bus/rebuilding.py; bus/native/hotlog.pxi, append; bus/moves.py.
 *
 * Producers append records with acks=1, and follow the bus when it moves. They, the broker and the
 * replicas may be killed before every step; a producer may also be slow or stopped at any step, with
 * the partition's lock or without, and the broker then stops waiting for it. The replica of a
 * directory outlives its broker. Whoever finds something spoiled may find it in a running bus or
 * when a new broker looks at what a dead one has left. In the end all that was acknowledged is on
 * the disk or in the hot directory that is in use, and no record was made durable twice.
 *
 * Left out: which bytes are spoiled (what was damaged is lost, here nothing is), offsets (the next
 * one is the reserved limit), consumers (they go on by offset), groups, the order of memory (a full
 * fence stands between each store and the load that is to see the other side; the litmus tests have
 * it), locks that were overwritten: the look behind the append does not depend on them.
 */
#ifndef RECORDS
#define RECORDS 2 /* one of each producer */
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#ifndef MOVES
#define MOVES 2
#endif
#define DIRECTORIES 6 /* 0: none; each new one has a number of its own */
#ifdef BREAK_END_OF_REPLICA
#define RUNS true
#else
#define RUNS (replica == serial)
#endif
/* One step, or a death before it. */
#define STEP(action) atomic { if :: deaths > 0 -> deaths--; goto died :: true fi; action }

byte path = 1, aside, made = 1;     /* which directory has the name, and which the other one */
bool has_control[DIRECTORIES];      /* bus.ctl has its name: it is whole */
bool moving[DIRECTORIES];           /* `stopping` is 2 */
bool is_open[DIRECTORIES];          /* the offset limit is above 0 */
byte hot[DIRECTORIES];              /* records, as bits */
byte lock[DIRECTORIES];             /* producer + 1 */
byte disk;                          /* durable records */
byte replica, serials = 1, followed; /* which one runs (0: none does), and of which directory */
bool serves;                        /* a broker answers */

byte deaths = DEATHS, moves = MOVES, sending = RECORDS;
byte acknowledged;                  /* ghost */
bool over;

proctype Producer(byte me) {
    byte here, seen;
    bool holds;
again:
    skip;
    d_step { holds = false; seen = 0 };
    atomic { path != 0 && has_control[path] && serves && !moving[path] -> here = path }; /* attach */
    if
    :: atomic { lock[here] == 0 -> lock[here] = me + 1; holds = true }
    :: moving[here] -> goto again /* nobody may ever give back what is spoiled */
    fi;
    if
    :: !is_open[here] -> STEP(lock[here] = 0); holds = false; moving[here] || is_open[here]; goto again
    :: is_open[here]
    fi;
#ifdef BREAK_LOOK_BEHIND_PUBLICATION
    seen = moving[here];
#endif
    STEP(hot[here] = hot[here] | (1 << me)); /* publish */
    STEP(lock[here] = 0; holds = false);
#ifndef BREAK_LOOK_BEHIND
#ifndef BREAK_LOOK_BEHIND_PUBLICATION
    seen = moving[here];
#endif
#endif
    if
    :: !seen -> acknowledged = acknowledged | (1 << me)
    :: seen /* an error that says so; it is not sent again */
    fi;
    goto done;
died: /* the robust lock lets the next one in */
    skip;
    d_step {
        if
        :: holds -> lock[here] = 0
        :: else
        fi
    };
done:
    sending--
}

/* The replica of one directory. It outlives its broker, and ends when a broker ends it. */
proctype Replica(byte from, serial) {
    byte position = disk; /* it begins behind what the disk has */
    do
    :: atomic { RUNS && (hot[from] & ~position) & 1 ->
                assert(!(disk & 1)); disk = disk | 1; position = position | 1 }
    :: atomic { RUNS && (hot[from] & ~position) & 2 ->
                assert(!(disk & 2)); disk = disk | 2; position = position | 2 }
    :: atomic { replica == serial && deaths > 0 -> deaths--; replica = 0; break }
    :: !(RUNS) || over -> break
    od
}

inline start_replica() {
    serials++;
    replica = serials;
    followed = path;
    run Replica(path, serials)
}

inline end_replica() { replica = 0 }

/* _make_way: one that was put aside before is the better one. */
inline make_way() {
    atomic {
#ifdef BREAK_BETTER_ONE
        if
        :: path != 0 -> aside = path
        :: else
        fi;
#else
        if
        :: path != 0 && aside == 0 -> aside = path
        :: else /* the other one is wiped */
        fi;
#endif
        path = 0
    }
}

proctype Broker() {
    byte copied;
open: /* open_or_create, and all partitions */
    copied = 0;
    if
    :: path != 0 && has_control[path] ->
       STEP(aside = 0); /* wiped: what could be saved of it is in the other one */
       if
       :: moves > 0 -> /* a page does not hold what it must */
          STEP(moves--; moving[path] = true);
          STEP(make_way());
          goto open
       :: true ->
          STEP(is_open[path] = true);
          STEP(moving[path] = false);
          if
          :: replica == 0 || followed != path -> STEP(start_replica())
          :: replica != 0 && followed == path /* it lives, and goes on */
          fi;
          goto serve
       fi
    :: else
    fi;
    STEP(make_way());
    STEP(made++; path = made; end_replica());
    STEP(copied = disk); /* where the durable log ends */
#ifdef BREAK_COPY_BEFORE_CONTROL
    STEP(is_open[path] = true; has_control[path] = true);
#endif
#ifdef BREAK_WIPE_AFTER_CONTROL
    copied = hot[aside] & ~copied;
    STEP(aside = 0);
    STEP(hot[path] = copied);
#else
    STEP(hot[path] = hot[path] | (hot[aside] & ~copied));
#endif
    STEP(is_open[path] = true; has_control[path] = true);
    STEP(aside = 0);
    STEP(start_replica());
serve:
    serves = true;
    if
    :: moves > 0 && sending > 0 -> /* the guard finds a page that was written over */
       STEP(moves--);
       STEP(is_open[path] = false); /* its lock is waited for, or in vain: that proves nothing */
#ifndef BREAK_ANNOUNCEMENT
       STEP(moving[path] = true);
#endif
       STEP(end_replica());
       serves = false;
       STEP(make_way());
       goto open
    :: sending == 0 -> goto done
    fi;
died:
    serves = false; /* another one starts */
    goto open;
done:
    atomic {
        assert((acknowledged & ~(disk | hot[path])) == 0);
        over = true
    }
}

init {
    atomic {
        has_control[1] = true;
        is_open[1] = true;
        followed = 1;
        replica = 1;
        run Broker();
        run Replica(1, 1);
        run Producer(0);
        run Producer(1)
    }
}
