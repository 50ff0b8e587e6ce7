"""Each pair of the core broken once: what a test of the order of memory must find."""

from typing import Final, NamedTuple


class Mutation(NamedTuple):
    """A text of a file of bus/native, replaced; the test of weak.cpp that must fail then."""

    test: str
    file: str
    old: str
    new: str


def _weaker(test: str, file: str, call: str) -> Mutation:
    for strong in ("_release", "_acquire"):
        if strong in call:
            return Mutation(test, file, call, call.replace(strong, "_relaxed"))
    raise AssertionError(f"{call} names no order")


def _without(test: str, file: str, statement: str) -> Mutation:
    return Mutation(test, file, statement, ";")


MUTATIONS: Final = {
    "publish stores the tail relaxed": _weaker(
        "end_of_log", "log.c", "bus_store_release(&control->tail, tail)"
    ),
    "publish has no fence before the other end": _without(
        "end_of_log", "log.c", "bus_fence_release();"
    ),
    "bus_log_end loads the tail relaxed": _weaker(
        "end_of_log", "log.c", "tail = bus_load_acquire(&control->tail)"
    ),
    "bus_log_end looks at the tail once": Mutation(
        "end_of_log",
        "log.c",
        "owner == tail && bus_load_relaxed(&control->tail) == tail",
        "owner == tail",
    ),
    "bus_publish_durable stores the check relaxed": _weaker(
        "marks", "durable.c", "bus_store_release(&control->marks[older].check"
    ),
    "bus_durable_end loads the check relaxed": _weaker(
        "marks", "durable.c", "bus_load_acquire(&control->marks[i].check)"
    ),
    "bus_publish_durable stores what is waited for relaxed": _weaker(
        "marks", "durable.c", "bus_store_release(&control->high_watermark, offset)"
    ),
    "bus_durable_end believes a mark without its check": Mutation(
        "marks", "durable.c", "offset > end && check == mark_check(control, offset)", "offset > end"
    ),
    "bus_is_lost looks once": Mutation(
        "lost", "durable.c", "LOST_LOOKS_MAX 100", "LOST_LOOKS_MAX 1"
    ),
    "bus_sleeper_set has no fence": _without("wake", "wait.c", "bus_fence_full();"),
    "bus_wake has no fence": _without("wake", "wait.h", "bus_fence_full();"),
    "an append that looks for a move has no fence": _without("move", "wait.h", "bus_fence_full();"),
    "bus_wake takes no words": Mutation(
        "wake", "wait.c", "bus_exchange(&sleepers->words[word], 0)", "0"
    ),
    "bus_pin has no fence": _without(
        "pin", "log.c", "bus_fence_full(); /* pairs with the fence in retire"
    )._replace(new="; /* "),
    "retire has no fence": _without("pin", "ring.c", "bus_fence_full();"),
    "bus_is_pinned loads the pins relaxed": _weaker(
        "pin", "log.c", "bus_load_acquire(&reader->pins)"
    ),
    "a reader's place is stored relaxed": _weaker(
        "attach", "reader.c", "bus_store32_release(&reader->owner, (uint32_t)client + 1)"
    ),
    "a reader's place is loaded relaxed": _weaker(
        "attach", "reader.h", "uint32_t owner = bus_load32_acquire(&reader->owner)"
    ),
    "a reader's place is taken without compare and swap": Mutation(
        "attach",
        "reader.c",
        "if (!bus_compare_exchange32(&reader->owner, &nobody, claim)) continue;",
        "(void)nobody; bus_store32_relaxed(&reader->owner, claim);",
    ),
    "a reader's place lies above the highest one": _without(
        "attach", "reader.c", "raise_high(control, (uint64_t)i + 1);"
    ),
}
