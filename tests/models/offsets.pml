/* offsets.pml: a commit that is done stays; none is seen that nobody made.
 *
 * docs/design.md, the crash table "Groups"; bus/offsets.py, put and rewrite; bus/offset_entries.py,
 * entry_of; bus/group_tables.py, committed; bus/groups.py, _sync.
 *
 * One entry of two copies, in two pages. Writers commit 1, 2, 3 under the group's mutex and may be
 * killed in the middle of a write, which leaves a copy that does not verify. The broker syncs the
 * file; a sync may fail, and then the kernel calls the pages clean, so that a later one writes
 * nothing. The broker may be killed at every step, and what it only remembered is lost. The kernel
 * writes dirty pages when it likes, and the power may fail at any moment.
 *
 * Left out: several partitions in a page, growth, deletion; reads without the mutex, which a group with a stopped holder makes twice.
 */
#ifndef COMMITS
#define COMMITS 3
#endif
#ifndef DEATHS
#define DEATHS 2
#endif
#define FAILURES 1

#define TORN 99
#define VALID(number) (number != 0 && number != TORN)
#define NEWEST(one, two) \
    (VALID(one) && (!VALID(two) || one >= two) -> one : (VALID(two) -> two : 0))

byte copy[2];    /* the sequence, which is the offset, too */
byte on_disk[2];
bool dirty[2];
byte begun, done, synced;
byte deaths = DEATHS, failures = FAILURES;
bool locked, ended, power = true;

inline may_die() {
    if
    :: atomic { power && deaths > 0 -> deaths--; goto died }
    :: power
    fi
}

inline may_die_locked() {
    if
    :: atomic { power && deaths > 0 -> deaths--; goto died_locked }
    :: power
    fi
}

proctype Writer() {
    byte newest, target;
    {
    skip;
again:
    if
    :: atomic { !locked && begun < COMMITS -> locked = true }
    :: atomic { !locked && begun == COMMITS -> goto finished }
    fi;
    d_step {
        newest = NEWEST(copy[0], copy[1]);
        assert(newest >= done && newest <= begun);
        /* entry_of: the copy that does not count is overwritten */
        target = (VALID(copy[0]) && copy[0] == newest -> 1 : 0);
#ifdef BREAK_OTHER_COPY
        target = 0;
#endif
        begun = newest + 1
    }
    may_die();
#ifdef BREAK_CHECKSUM
    d_step { copy[target] = COMMITS + 1; dirty[target] = true } /* taken for whole */
#else
    d_step { copy[target] = TORN; dirty[target] = true } /* pwrite, half of it */
#endif
    may_die();
    d_step { copy[target] = newest + 1; dirty[target] = true }
    may_die();
    done = newest + 1;
    may_die();
    locked = false;
    goto again;
died: /* the mutex is a robust one */
    atomic { locked = false; newest = 0; target = 0 }
    goto again;
finished:
    ended = true
    } unless { !power }
}

proctype Reader() {
    byte newest, least;
    do
    :: atomic { power && !locked -> newest = NEWEST(copy[0], copy[1]);
                assert(newest >= least && newest >= done && newest <= begun);
                least = newest; newest = 0 }
    :: !power || ended -> break
    od
}

proctype Broker() {
    byte promised;
    bool in_doubt, good;
    byte rounds = 3;
    {
    skip;
resume:
    skip;
    d_step { promised = 0; good = false;
#ifdef BREAK_DOUBT_AT_START
             in_doubt = false }
#else
             in_doubt = true } /* a sync may have failed under the broker before */
#endif
    do
    :: rounds == 0 -> break
    :: atomic { rounds > 0 -> rounds-- }
       if
       :: in_doubt ->
          atomic { !locked -> locked = true }
          may_die_locked();
#ifndef BREAK_REWRITE
          d_step { dirty[0] = true; dirty[1] = true } /* from the page cache */
#endif
          may_die_locked();
          locked = false;
          in_doubt = false
       :: else
       fi;
       promised = done;
       may_die();
       if
       :: d_step { good = true;
                   if
                   :: dirty[0] -> on_disk[0] = copy[0]; dirty[0] = false
                   :: else
                   fi;
                   if
                   :: dirty[1] -> on_disk[1] = copy[1]; dirty[1] = false
                   :: else
                   fi }
       :: d_step { failures > 0 && (dirty[0] || dirty[1]) ->
                   failures--; dirty[0] = false; dirty[1] = false; good = false }
       fi;
       may_die();
       if
       :: good ->
          d_step {
              if
              :: promised > synced -> synced = promised
              :: else
              fi
          }
       :: else -> in_doubt = true
       fi
    od;
    goto finished;
died_locked:
    locked = false;
died:
    goto resume;
finished:
    skip
    } unless { !power }
}

proctype Kernel() {
    byte newest;
    do
    :: d_step { dirty[0] && on_disk[0] != copy[0] -> on_disk[0] = copy[0] }
    :: d_step { dirty[1] && on_disk[1] != copy[1] -> on_disk[1] = copy[1] }
    :: break
    od;
    atomic { /* the power fails, at some moment */
        power = false;
        newest = NEWEST(on_disk[0], on_disk[1]);
        /* a damaged copy costs at most the last commit */
        assert(newest + (on_disk[0] == TORN || on_disk[1] == TORN -> 1 : 0) >= synced);
        assert(newest <= begun)
    }
}

init { atomic { run Writer(); run Reader(); run Broker(); run Kernel() } }
