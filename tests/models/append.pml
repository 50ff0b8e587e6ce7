/* append.pml: append, repair after a death, and reading the end of the log.
 *
 * docs/design.md, "Append" and its crash table; bus/native/log.c, fill, publish and bus_log_end;
 * bus/native/lock.c, the robust mutex. The numbers at the steps are those of "Append".
 *
 * Two writers append in turn and may die before every step, in the repair too; a reader looks at
 * the end without a lock, then walks the frames. Stores of the lock's holder wait in a buffer and
 * come into memory in any order, one location apart from another, as far as no fence or release
 * forbids it: that is weaker than x86 and than what aarch64 does to stores.
 *
 * Left out: rolls (recycle.pml), the index (a hint), wake-ups (wake.pml), offset_limit.
 * A record is a frame of one or two units: so an end that a dead writer left seldom fits the next.
 * A dead process's stores reach memory before the kernel hands its lock over.
 */
#ifndef APPENDS
#define APPENDS 3 /* publications that are tried */
#endif
#ifndef DEATHS
#define DEATHS 2 /* the second one may fall into the repair */
#endif
#define UNITS 7   /* positions 0..6; a frame takes one or two */
#define LOOKS 1    /* of the reader, each at any time */
#define ALL_LANDED !(frame_waits || end_waits || next_waits || tail_waits)

mtype = { FREE, HELD, OWNER_DIED };
mtype lock = FREE;
byte deaths = DEATHS, tries = APPENDS;

/* Memory, and what has not come there yet. */
byte tail, end_tail[2], end_next[2], frame_offset[UNITS], frame_size[UNITS];
bool frame_waits, end_waits, next_waits, tail_waits;
byte new_position, new_offset, new_size, new_end, new_end_tail, new_end_next, new_tail;

byte truth[UNITS];  /* ghost: the log end offset that belongs to each published tail */
bool acknowledged[APPENDS]; /* ghost: offsets whose append returned */
byte writing = 2;   /* writers that have not ended */

inline land_frame() {
    d_step { frame_offset[new_position] = new_offset + 1; frame_size[new_position] = new_size;
             frame_waits = false }
}
inline land_end() { d_step { end_tail[new_end] = new_end_tail; end_waits = false } }
inline land_next() { d_step { end_next[new_end] = new_end_next; next_waits = false } }
inline land_tail() { d_step { tail = new_tail; tail_waits = false } }

active proctype Memory() {
    do
    :: frame_waits -> land_frame()
    :: end_waits -> land_end()
    :: next_waits -> land_next()
    :: tail_waits -> land_tail()
    :: writing == 0 && ALL_LANDED -> break
    od
}

inline may_die() {
    if
    :: deaths > 0 -> deaths--; goto died
    :: true
    fi
}

inline copy_frame() {
    d_step { new_position = position; new_offset = offset; new_size = size; frame_waits = true }
}

inline publish_end() {
    d_step { new_end = 1 - which; new_end_tail = position + size; end_waits = true }
    may_die();
    d_step { new_end_next = offset + 1; next_waits = true }
}

inline publish_tail() {
#ifndef BREAK_RELEASE_OF_TAIL
    !(frame_waits || end_waits || next_waits); /* release */
#endif
    d_step { new_tail = position + size; truth[position + size] = offset + 1; tail_waits = true }
}

active [2] proctype Writer() {
    byte position, first, offset, size, which;
    bool holds;
again:
    skip;
    d_step { holds = false; position = 0; first = 0; offset = 0; size = 0; which = 0 };
    if
    :: tries == 0 -> goto done
    :: atomic { tries > 0 && lock == FREE -> tries--; lock = HELD; holds = true } /* 2 */
#ifndef BREAK_ROBUST_LOCK
    :: atomic { tries > 0 && lock == OWNER_DIED -> tries--; lock = HELD; holds = true };
       may_die() /* before it is marked consistent: nothing else is to be repaired */
#endif
    fi;
    d_step { /* 3 */
        position = tail;
        which = (end_tail[0] == tail -> 0 : 1);
        assert(end_tail[which] == position);
        offset = end_next[which];
        first = offset;
    }
next_one:
    if
    :: size = 1
    :: size = 2
    fi;
    assert(position + size < UNITS); /* 4: room */
#ifndef BREAK_FRAME_BEFORE_TAIL
    copy_frame(); /* 5 */
    may_die();
#endif
#ifndef BREAK_RELEASE_FENCE
    ALL_LANDED; /* 6 */
#endif
#ifdef BREAK_OTHER_END
    which = 1 - which; /* so that the end that counts is rewritten */
#endif
#ifdef BREAK_END_BEFORE_TAIL
    publish_tail();
    may_die();
    publish_end();
#else
    publish_end();
    may_die();
    publish_tail(); /* 7 */
#endif
#ifdef BREAK_FRAME_BEFORE_TAIL
    copy_frame();
#endif
    d_step { position = position + size; offset++; which = 1 - which };
    may_die();
    if
    :: tries > 0 -> tries--; goto next_one /* a batch goes on, as after a roll */
    :: atomic { ALL_LANDED -> lock = FREE; holds = false } /* 8 */
    fi;
    may_die();
    d_step { /* the append returns */
        for (first : first .. offset - 1) {
            assert(!acknowledged[first]); /* no offset is given out twice */
            acknowledged[first] = true
        }
    }
    goto again;
died: /* and another process takes its place */
    if
    :: holds -> atomic { ALL_LANDED -> lock = OWNER_DIED }
    :: else
    fi;
    goto again;
done:
    writing--
}

/* bus_log_end, then the walk of a reader: "Read", steps 1 and 3. */
active proctype Reader() {
    byte seen_tail, owner, next, which, position, offset;
    byte looks = LOOKS;
    do
    :: looks == 0 -> break
    :: looks > 0 ->
       looks--;
#ifdef BREAK_ACQUIRE_OF_TAIL
       next = end_next[1];
#endif
       seen_tail = tail;
       which = (end_tail[0] == seen_tail -> 0 : 1);
       owner = end_tail[which];
#ifdef BREAK_ACQUIRE_OF_TAIL
       next = (which == 1 -> next : end_next[0]);
#else
       next = end_next[which];
#endif
       if
#ifdef BREAK_SECOND_LOOK
       :: owner == seen_tail ->
#else
       :: owner == seen_tail && tail == seen_tail ->
#endif
          assert(next == truth[seen_tail]);
          atomic { /* nobody writes below the tail: the walk may be one step */
              position = 0;
              offset = 0;
              do
              :: position < seen_tail ->
                 assert(frame_offset[position] == offset + 1); /* whole, and the next one */
                 position = position + frame_size[position];
                 offset++
              :: else -> break
              od;
              assert(position == seen_tail && offset == next)
          }
       :: else /* the tail moved: look again */
       fi
    od;
    writing == 0;
    d_step { /* what was acknowledged is there at the end, whoever died */
        which = (end_tail[0] == tail -> 0 : 1);
        assert(end_tail[which] == tail && end_next[which] == truth[tail]);
        for (position : 0 .. APPENDS - 1) {
            assert(!acknowledged[position] || position < end_next[which])
        }
    }
}
