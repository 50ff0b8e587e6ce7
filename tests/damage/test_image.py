"""A segment that is made anew tells of every record that did not verify, wherever damage put it."""

from pathlib import Path

import pytest

from bus.durable import DATA_START
from bus.native.core import LAYOUT, gap_frame, parse_header, scan_segment
from bus.repair.image import Gap, Identity, Image, make_image
from tests.broker.hotlog import TOPIC_ID, HotLog

FRAME_BYTES = LAYOUT["sizeof.bus_frame"]
RECORDS = 6


@pytest.fixture
def sealed(tmp_path: Path) -> tuple[Identity, bytearray]:
    """Who a segment of equal records is, and its bytes."""
    with HotLog(tmp_path) as hot:
        hot.append(*(b"value %d" % number * 20 for number in range(RECORDS)))
        file = hot.segment_file(1)
        hot.roll()
        data = bytearray(file.read_bytes())
        bus_id = hot.directory.bus_id
    return Identity(bus_id, TOPIC_ID, 0, 1, 0, 0, len(data)), data


def place(data: bytearray, record: int) -> int:
    size = (parse_header(bytes(data)).end_position - DATA_START) // RECORDS
    return DATA_START + record * size


def assert_all_verifies(image: Image) -> None:
    scan = scan_segment(image.data)
    assert (scan.sealed, scan.next_offset) == (True, image.end_offset) == (True, RECORDS)


def test_what_verifies_stays_as_it_was(sealed: tuple[Identity, bytearray]) -> None:
    identity, data = sealed
    end = parse_header(bytes(data)).end_position
    image = make_image(identity, [data], None)
    assert image.gaps == []
    assert image.data[DATA_START:end] == data[DATA_START:end]
    assert_all_verifies(image)


@pytest.mark.parametrize("behind", range(0, FRAME_BYTES, 8))
def test_a_later_frame_where_a_damaged_one_began_does_not_hide_what_is_lost(
    sealed: tuple[Identity, bytearray], behind: int
) -> None:
    """A misdirected write: between the frames there is no room for one that tells of a gap."""
    identity, data = sealed
    at = place(data, 1) + behind
    data[at : at + FRAME_BYTES] = gap_frame(FRAME_BYTES, 4, 5, identity.seed)
    if behind:
        data[place(data, 1)] ^= 1
    image = make_image(identity, [data], None)
    assert image.gaps == [Gap(1, 2)]
    assert image.data[place(data, 2) : place(data, 6)] == data[place(data, 2) : place(data, 6)]
    assert_all_verifies(image)


def test_one_record_comes_from_each_copy_and_one_that_is_in_neither_is_told(
    sealed: tuple[Identity, bytearray],
) -> None:
    identity, data = sealed
    one, other = bytearray(data), bytearray(data)
    for copy, records in ((one, (0, 3)), (other, (3, 5))):
        for record in records:
            copy[place(data, record) + FRAME_BYTES] ^= 1
    image = make_image(identity, [one, other], None)
    assert image.gaps == [Gap(3, 4)]
    assert_all_verifies(image)
    assert image.data[place(data, 4) : place(data, 6)] == data[place(data, 4) : place(data, 6)]


def test_records_that_were_cut_off_are_told_up_to_the_end_that_is_known(
    sealed: tuple[Identity, bytearray],
) -> None:
    identity, data = sealed
    image = make_image(identity, [data[: place(data, 2)]], RECORDS)
    assert image.gaps == [Gap(2, RECORDS)]
    assert_all_verifies(image)
