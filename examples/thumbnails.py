"""Images to contact sheets, through a pipeline: no pixel is pickled, one copy for each stage.

    render ──► shrink (2 workers) ──► contact_sheet (8 at a time) ──► this program
         └───► histogram ─────────────────────────────────────────────┘

40 images are rendered, made smaller, and laid out eight to a sheet; another branch counts how
bright they are. Each stage is a process of its own; an array lies in the log between two stages,
and is read where it lies. In the middle of it a worker is killed, which costs nothing but its time.

The pipeline draws itself; `pipeline.to_svg()` would be a picture of it at work. Needs numpy. The
bus is a private one, in memory, and is gone in the end.
"""

import os
import signal
from typing import Any

import numpy as np

import workers

IMAGES, PER_SHEET = 40, 8
HEIGHT, WIDTH, SHRINK = 240, 320, 5


def render(number: int) -> dict[str, Any]:
    """An image, as a camera would give it."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    red = (rows + 7 * number) % 256
    green = (columns + 3 * number) % 256
    blue = np.full_like(red, 5 * number % 256)
    return {"number": number, "image": np.stack([red, green, blue], axis=-1).astype(np.uint8)}


def shrink(picture: dict[str, Any]) -> dict[str, Any]:
    """A thumbnail: the mean of each square of pixels."""
    image = picture["image"]
    squares = image.reshape(HEIGHT // SHRINK, SHRINK, WIDTH // SHRINK, SHRINK, 3)
    return {**picture, "image": squares.mean(axis=(1, 3)).astype(np.uint8)}


def contact_sheet(pictures: list[dict[str, Any]]) -> dict[str, Any]:
    """Thumbnails beside each other."""
    return {
        "numbers": [picture["number"] for picture in pictures],
        "sheet": np.concatenate([picture["image"] for picture in pictures], axis=1),
    }


def histogram(picture: dict[str, Any]) -> dict[str, Any]:
    """How many values of pixels are how bright, in eight steps."""
    counts, _ = np.histogram(picture["image"], bins=8, range=(0, 256))
    return {"bright": counts}


def built() -> workers.Pipeline:
    """The stages."""
    pipeline = workers.Pipeline().source(range(IMAGES)).stage(render)
    pipeline.stage(shrink, processes=2).stage(contact_sheet, batch=PER_SHEET)
    return pipeline.stage(histogram, after="render")


def main() -> None:
    """Run it, kill a worker, look at what comes."""
    pipeline = built()
    print(pipeline)
    width, seen = 0, []
    bright = np.zeros(8, dtype=np.int64)
    with pipeline:
        for count, result in enumerate(pipeline.results()):
            if count == IMAGES // 4:
                os.kill(pipeline.pids()[0], signal.SIGKILL)
            if "sheet" in result:
                width += result["sheet"].shape[1]
                seen += result["numbers"]
            else:
                bright += result["bright"]
    assert sorted(seen) == list(range(IMAGES)), seen
    print(f"{width * SHRINK // WIDTH} thumbnails are on sheets, each of them once")
    print(f"{bright.sum()} values of pixels were counted, {bright[-1]} of them very bright")


if __name__ == "__main__":
    main()
