/* groups.pml: a partition has one owner, who alone commits; it finds an owner whoever died.
 *
 * docs/design.md, the crash table "Groups"; bus/group.py, plan, release, acquire, commit and
 * reap_dead; bus/members.py, admit, remove, remove_dead and _repair; bus/owners.py; bus/fencing.py.
 *
 * Two members, one partition. A member joins, plans, releases, acquires and commits. It may leave;
 * it may be killed at every store, also under the mutex and in its repair, and then joins again or
 * does not. `reads` is what it believes: from its claim until it gives up. A member may be taken
 * for dead while it sleeps (its process forked, the bus was started anew); until its next call it
 * is a zombie, which reads, and whose commit must be refused.
 *
 * Left out: several partitions (each has its own words), topics, offsets, strategies (a plan is any
 * assignment), the ringing. A member wakes when there is something for it to do; that nobody is
 * left waiting shows as a state without a way out. A slot that is used again has another `joined`.
 */
#ifndef DEATHS
#define DEATHS 2
#endif
#ifndef LEAVES
#define LEAVES 1
#endif
#ifndef ZOMBIES
#define ZOMBIES 1
#endif
#define NOBODY 0
#define ME (me + 1)
#define OTHER (2 - me)

byte generation = 1, planned, owner, target; /* owner and target: member slot + 1 */
bool client[3]; /* of a member slot + 1: it is taken */
bool dead[3];   /* its client is proven dead: the byte's lock is free, or another client's */
bool reads[3], zombie[3], gone[3];
byte seen[3];
byte holder;    /* of the mutex */
bool abandoned; /* its holder died */
bool finished;
byte deaths = DEATHS, leaves = LEAVES, zombies = ZOMBIES;

#define FOLLOWS(one) (seen[one] == generation && planned == generation)
#define CAN_ACT (!FOLLOWS(ME) || (target == ME && owner == NOBODY) || !client[ME])
#define SETTLED(one) (gone[one] || (FOLLOWS(one) && (target != one || owner == one)))

inline may_die() {
    if
    :: atomic { deaths > 0 -> deaths--; goto died }
    :: true
    fi
}

inline lock() {
    atomic { holder == 0 -> holder = ME }
    if
    :: abandoned -> /* _repair */
       generation++;
       may_die();
#ifndef BREAK_ORDER_AND_REPAIR
       if
       :: owner && !client[owner] -> owner = NOBODY; may_die()
       :: else
       fi;
       if
       :: target && !client[target] -> target = NOBODY; may_die()
       :: else
       fi;
#endif
       abandoned = false
    :: else
    fi
}

inline forget(slot) {
    if
    :: owner == slot -> owner = NOBODY; may_die()
    :: else
    fi;
    if
    :: target == slot -> target = NOBODY; may_die()
    :: else
    fi
}

inline remove(slot) {
#ifndef BREAK_GENERATION_OF_REMOVAL
    generation++;
    may_die();
#endif
#ifdef BREAK_ORDER_AND_REPAIR
    client[slot] = false;
    may_die();
    forget(slot)
#else
    forget(slot);
    client[slot] = false;
    may_die()
#endif
}

inline remove_dead() {
    if
    :: client[OTHER] && dead[OTHER] -> remove(OTHER)
    :: else
    fi;
    if
    :: client[ME] && dead[ME] -> remove(ME)
    :: else
    fi
}

proctype Member(byte me) {
    bool gives_up;
    skip;
join:
    lock();
    remove_dead();
    generation++;
    may_die();
    forget(ME);
    atomic { client[ME] = true; dead[ME] = false; zombie[ME] = false; reads[ME] = false };
    may_die();
    holder = 0;
    do
    :: CAN_ACT ->
       lock(); /* plan */
       remove_dead();
       if
       :: !client[ME] -> /* removed while it slept: all it had is lost */
          atomic { holder = 0; reads[ME] = false; seen[ME] = 0; goto join }
       :: else
       fi;
       if
       :: planned != generation ->
          if
          :: target = ME
          :: client[OTHER] -> target = OTHER
          fi;
          may_die();
          planned = generation;
          may_die()
       :: else
       fi;
       seen[ME] = generation;
       gives_up = (owner == ME && target != ME);
#ifndef BREAK_CALLBACK_FIRST
       if
       :: gives_up -> reads[ME] = false /* before it releases */
       :: else
       fi;
#endif
       holder = 0;
       may_die();
       lock(); /* release */
       if
       :: client[ME] && owner == ME && gives_up -> owner = NOBODY; may_die()
       :: else
       fi;
       holder = 0;
#ifdef BREAK_CALLBACK_FIRST
       may_die();
       reads[ME] = (gives_up -> false : reads[ME]);
#endif
       may_die();
       lock(); /* acquire */
       if
#ifdef BREAK_CLAIM_OF_FREE
       :: client[ME] && planned == generation && target == ME ->
#else
       :: client[ME] && planned == generation && target == ME && owner == NOBODY ->
#endif
          owner = ME;
          may_die();
          atomic { reads[ME] = true; assert(!reads[OTHER] || zombie[OTHER] || zombie[ME]) }
       :: else
       fi;
       holder = 0;
       may_die()
    :: reads[ME] && zombie[ME] -> /* its late commit */
       lock();
       if
#ifdef BREAK_FENCE
       :: true ->
#else
       :: client[ME] && owner == ME ->
#endif
          assert(owner == ME && (!reads[OTHER] || zombie[OTHER]))
       :: else
       fi;
       atomic { holder = 0; reads[ME] = false }
    :: atomic { reads[ME] && !zombie[ME] && zombies > 0 && holder == 0 ->
                zombies--; zombie[ME] = true; dead[ME] = true }
    :: (client[1] && dead[1]) || (client[2] && dead[2]) -> /* reap_dead */
       lock();
       remove_dead();
       holder = 0
    :: atomic { leaves > 0 -> leaves--; reads[ME] = false };
       lock();
       if
       :: client[ME] -> remove(ME)
       :: else
       fi;
       atomic { holder = 0; seen[ME] = 0 };
       goto join
    :: atomic { !finished && SETTLED(1) && SETTLED(2) && holder == 0 && !abandoned &&
                !(client[1] && dead[1]) && !(client[2] && dead[2]) ->
                assert(owner != NOBODY && owner == target && client[owner]);
                finished = true }
    :: finished -> goto done
    od;
died: /* the kernel frees its lock on the byte, and says that the mutex's holder died */
    atomic {
        gives_up = false; dead[ME] = client[ME]; reads[ME] = false; seen[ME] = 0;
        if
        :: holder == ME -> abandoned = true; holder = 0
        :: else
        fi;
        if
        :: goto join
        :: !gone[OTHER] -> gone[ME] = true
        fi
    }
done:
    skip
}

init { atomic { run Member(0); run Member(1) } }
