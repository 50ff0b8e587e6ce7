"""Video frames as numpy arrays, read in place: the consumer copies nothing.

    python examples/frames.py [DIR]

A camera process sends frames to a topic that lives in memory only. The viewer wraps each record as
an array with numpy.frombuffer(record): the pixels are where the camera's process has put them. An
array keeps its segment of the log from being recycled for as long as it is held, so hold few. The
viewer subscribes before the camera starts, so the log waits for it and no frame is lost.

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
    with bus.Producer(directory, client_id="camera") as producer:
        for number in range(FRAMES):
            frame = numpy.full(SHAPE, number, dtype=numpy.uint8)
            producer.send("frames", frame.reshape(-1))


def main(directory: str) -> None:
    """Run a broker and the camera, look at every frame."""
    context = multiprocessing.get_context("spawn")
    with bus.Broker(directory):
        with bus.Admin(directory) as admin:
            if "frames" not in admin.list_topics():
                memory = {"durability": "memory"}
                admin.create_topics([bus.NewTopic("frames", topic_configs=memory)])
        with bus.Consumer(
            "frames", bootstrap_servers=directory, client_id="viewer", consumer_timeout_ms=20_000
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
        # Before Python 3.12 no type says "has a buffer", so numpy's annotations refuse a record.
        pixels = numpy.frombuffer(record, dtype=numpy.uint8)  # type: ignore[call-overload]
        frame = pixels.reshape(SHAPE)
        in_place = not frame.flags.owndata and not frame.flags.writeable
        if in_place and int(frame.min()) == int(frame.max()) == seen:
            seen += 1
        if seen == FRAMES:
            break
    return seen


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(sys.argv[1] if len(sys.argv) > 1 else temporary)
