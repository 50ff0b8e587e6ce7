"""Video frames as numpy arrays, read in place: the consumer copies nothing.

    python examples/frames.py [DIR]

A camera process sends frames to a topic that lives in memory only: value_serializer="numpy" copies
each one into the log, with its shape and dtype. The viewer's value_deserializer="numpy" copies
nothing: the pixels are where the camera's process has put them, at a multiple of 64, and read-only.
To change them, take frame.copy(). An array keeps its segment of the log from being recycled for as
long as it is held, so hold few. The viewer subscribes before the camera starts, so the log waits
for it and no frame is lost.

Needs numpy. DIR is a directory for the bus in which no broker runs; without it, a temporary one.
"""

import multiprocessing
import sys
import tempfile

import numpy

import bus

FRAMES = 100
SHAPE = (480, 640, 3)  # height, width, colours: 921,600 bytes a frame


def camera(directory: str) -> None:
    """Sends frames; all pixels of a frame have its number as their value."""
    with bus.Producer(directory, client_id="camera", value_serializer="numpy") as producer:
        for number in range(FRAMES):
            producer.send("frames", numpy.full(SHAPE, number, dtype=numpy.uint8))


def main(directory: str) -> None:
    """Run a broker and the camera, look at every frame."""
    context = multiprocessing.get_context("spawn")
    with bus.Broker(directory):
        with bus.Admin(directory) as admin:
            if "frames" not in admin.list_topics():
                memory = {"durability": "memory"}
                admin.create_topics([bus.NewTopic("frames", topic_configs=memory)])
        with bus.Consumer(
            "frames",
            bootstrap_servers=directory,
            client_id="viewer",
            value_deserializer="numpy",
            consumer_timeout_ms=20_000,
        ) as consumer:
            process = context.Process(target=camera, args=(directory,))
            process.start()
            seen = view(consumer)
            process.join()
    print(f"{seen} frames of {SHAPE[1]} x {SHAPE[0]} pixels were looked at where they lie")
    if seen != FRAMES:
        sys.exit(f"{FRAMES} frames were sent")


def view(consumer: bus.Consumer) -> int:
    """Look at frames until all have come; how many were what they should be."""
    seen = 0
    for record in consumer:
        frame = record.value
        in_place = not frame.flags.owndata and not frame.flags.writeable
        if in_place and frame.shape == SHAPE and int(frame.min()) == int(frame.max()) == seen:
            seen += 1
        if seen == FRAMES:
            break
    return seen


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(sys.argv[1] if len(sys.argv) > 1 else temporary)
