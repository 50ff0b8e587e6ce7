/* replica.pml: nothing is acknowledged that a power loss could take away.
 *
 * docs/design.md, "Durability: the replica" and the crash table "Durable files"; bus/replica.py,
 * resume, _advance, _finish and _copy_anew; bus/mirror.py; bus/pending_sync.py; bus/durable.py.
 * The numbers at the steps are those of the protocol.
 *
 * Two segments of two records stand in the hot ring. The replica copies them, syncs the first one
 * while it copies the second, and may be killed before every step; another one takes its place. At
 * any moment the power may fail; then recovery looks at what the disk has. The kernel writes dirty
 * records to the disk when it likes, one by one. An fdatasync may fail; then the kernel calls the
 * pages clean all the same, so that a later fdatasync returns 0 and writes nothing, and it may
 * forget them, so that what is read again is what the disk has.
 *
 * Left out: checksums (what is cut short does not verify), full disks, retention. The thread that
 * syncs ends with the replica; its steps fall anywhere between those of the copying.
 */
#define RECORDS 2 /* of each of the two segments */
#ifndef DEATHS
#define DEATHS 2
#endif
#ifndef FAILURES
#define FAILURES 1 /* of fdatasync */
#endif
#define NAMED(segment) (segment)        /* the file under the segment's name */
#define TEMPORARY(segment) (segment + 2) /* and the one that has no name yet */
#define NONE 9

byte cached[4];  /* records of each file that can be read */
byte on_disk[4]; /* those that the disk has */
bool dirty[4], exists[4];
bool loose[2];        /* the rename of the segment's file may not be on the disk yet: */
byte before[2];       /* then the disk may still have the file before, with so many records */
byte watermark, deaths = DEATHS, failures = FAILURES;
bool power = true, finished;

inline kernel_touches(one) {
    d_step {
        if
        :: power && on_disk[one] < cached[one] && dirty[one] -> on_disk[one]++
        :: power && on_disk[one] < cached[one] && !dirty[one] -> cached[one] = on_disk[one]
        fi
    }
}

proctype Kernel() {
    byte file, has[2];
    do
    :: kernel_touches(0)
    :: kernel_touches(1)
    :: kernel_touches(2)
    :: kernel_touches(3)
    :: finished -> break
    :: power -> break
    od;
    atomic { /* the power fails, at some moment */
        power = false;
        for (file : 0 .. 1) {
            has[file] = (exists[file] -> on_disk[file] : NONE);
            if
            :: loose[file] -> has[file] = before[file]
            :: true
            fi
        }
        if /* recovery scans the newest file alone */
        :: has[1] != NONE -> assert(has[0] == RECORDS); file = RECORDS + has[1]
        :: has[1] == NONE && has[0] != NONE -> file = has[0]
        :: else -> file = 0
        fi;
        assert(file >= watermark) /* what was acknowledged is there */
    }
}

inline may_die() {
    if
    :: atomic { power && deaths > 0 -> deaths--; goto died }
    :: power
    fi
}

inline fdatasync(one) { /* `good`: it returned 0 */
    if
    :: d_step { power && (!dirty[one] || failures < FAILURES + 1) ->
                good = true;
                if
                :: dirty[one] -> on_disk[one] = cached[one]; dirty[one] = false
                :: else
                fi }
    :: d_step { power && dirty[one] && failures > 0 ->
                failures--; dirty[one] = false; good = false }
    fi
}

inline rename(which) {
    d_step {
        before[which] = (exists[which] -> on_disk[which] : NONE);
        loose[which] = true;
        cached[which] = cached[which + 2]; on_disk[which] = on_disk[which + 2];
        dirty[which] = dirty[which + 2]; exists[which] = true;
        exists[which + 2] = false; cached[which + 2] = 0; on_disk[which + 2] = 0;
        dirty[which + 2] = false
    }
}

/* Mirror._make_durable: the first sync of a file gives it its name. */
inline sync(which) {
    if
    :: exists[TEMPORARY(which)] ->
#ifdef BREAK_SYNC_BEFORE_NAME
       rename(which);
       may_die();
       fdatasync(NAMED(which));
#else
       fdatasync(TEMPORARY(which));
       may_die();
       if
       :: good -> rename(which); may_die()
       :: else
       fi;
#endif
       if
       :: good ->
#ifndef BREAK_SYNC_OF_DIRECTORY
          loose[which] = false; /* fsync of the directory */
#endif
          may_die()
       :: else
       fi
    :: else -> fdatasync(NAMED(which)); may_die()
    fi
}

inline publish(count) {
    d_step {
        if
        :: power && count > watermark -> watermark = count
        :: else
        fi
    }
}

inline write(which, count) { /* pwrite, behind what is there or from the start */
    d_step {
        if
        :: exists[TEMPORARY(which)] -> cached[which + 2] = count; dirty[which + 2] = true
        :: else -> cached[which] = count; dirty[which] = true
        fi
    }
}

inline create(which) {
    d_step { exists[which + 2] = true; cached[which + 2] = 0; on_disk[which + 2] = 0 }
}

/* _copy_anew: a file given up is copied from the ring, and the copy takes its place. */
inline copy_anew(which, count) {
    create(which);
    may_die();
    write(which, count);
    may_die();
    sync(which);
    if
    :: good -> publish(which * RECORDS + count)
    :: else -> goto done /* it ends for good */
    fi
}

inline commit(which, count) { /* 3 */
#ifdef BREAK_SYNC_BEFORE_WATERMARK
    publish(which * RECORDS + count);
#endif
    sync(which);
#ifdef BREAK_FAILED_SYNC_IS_FINAL
    if
    :: !good && exists[TEMPORARY(which)] -> fdatasync(TEMPORARY(which)); rename(which); loose[which] = false
    :: !good && !exists[TEMPORARY(which)] -> fdatasync(NAMED(which))
    :: else
    fi;
#endif
    if
    :: good -> publish(which * RECORDS + count)
    :: else -> copy_anew(which, count)
    fi;
    may_die()
}

inline settle() { /* the segment before, whose sync runs meanwhile */
    if
    :: pending -> pending = false; commit(0, RECORDS)
    :: else
    fi
}

proctype Replica() {
    byte segment, records;
    bool good, pending;
    {
    skip;
resume:
    skip;
    d_step { exists[2] = false; exists[3] = false; cached[2] = 0; cached[3] = 0; on_disk[2] = 0;
             on_disk[3] = 0; dirty[2] = false; dirty[3] = false; pending = false; records = 0;
             segment = 0 }
    if
    :: exists[1] -> segment = 1
    :: else
    fi;
    if
    :: exists[segment] -> /* Mirror.reopen */
       records = cached[segment];
       assert(segment * RECORDS + records >= watermark);
       may_die();
#ifdef BREAK_DISTRUST_AT_RESUME
       fdatasync(segment); /* of a file whose sync may have failed under the dead one */
       if
       :: good -> publish(segment * RECORDS + records)
       :: else -> copy_anew(segment, records)
       fi
#else
       if
       :: records == RECORDS || segment * RECORDS + records != watermark ->
          copy_anew(segment, records)
       :: else
       fi
#endif
    :: else
    fi;
    do
    :: power && records < RECORDS -> /* 1, 2 */
       if
       :: records == 0 && !exists[segment] && !exists[segment + 2] -> create(segment); may_die()
       :: else
       fi;
       records++;
       write(segment, records);
       may_die();
       if
       :: true
       :: settle(); commit(segment, records)
       fi
    :: power && records == RECORDS && segment == 0 -> /* 4 */
#ifdef BREAK_ORDER_OF_SEGMENTS
       pending = false;
#else
       pending = true;
#endif
       segment = 1;
       records = cached[1]
    :: power && records == RECORDS && segment == 1 ->
       settle();
       commit(segment, records);
       break
    :: !power -> break
    od;
    goto done;
died:
    goto resume;
done:
    finished = true
    } unless { !power }
}

init { atomic { run Kernel(); run Replica() } }
