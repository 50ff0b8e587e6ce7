# Whole segment files: headers, scans, seals. For recovery, check and dump.

from bus.native.tuples import Scan, SegmentHeader


def parse_header(data):
    """The header of a segment file from its first bytes; CorruptSegmentError names a bad field."""
    cdef Py_buffer buffer
    cdef const bus_segment *s
    cdef const char *error
    PyObject_GetBuffer(data, &buffer, PyBUF_SIMPLE)
    try:
        s = <const bus_segment *>buffer.buf
        error = bus_segment_header_error(s, max(<uint64_t>buffer.len, s.bytes)
                                         if buffer.len >= <Py_ssize_t>sizeof(bus_segment) else 0)
        if error != NULL:
            raise _errors.CorruptSegmentError(error.decode())
        return SegmentHeader(s.bus_id, s.topic_id, s.partition, s.number, s.base_offset,
                             s.previous_end, s.bytes, s.created_ns, s.seed, s.end_offset,
                             s.end_position, s.max_timestamp)
    finally:
        PyBuffer_Release(&buffer)


def scan_segment(data, *, uint64_t start=0, uint64_t limit=0, offset=None, seed=None):
    """Walks the frames of a whole segment and verifies every checksum.

    `start` and `limit` are byte positions; 0 means the first frame and the end of the data. The
    first frame must have `offset`; by default, with a start, the one that is found there. `seed` is
    that of the header, unless it is given. Returns where the valid frames end, the offset after
    them, and why the walk stopped early, if it did.
    """
    cdef Py_buffer buffer
    cdef bus_scan scan
    cdef const uint8_t *base
    cdef uint64_t first, mixed
    PyObject_GetBuffer(data, &buffer, PyBUF_SIMPLE)
    try:
        base = <const uint8_t *>buffer.buf
        if buffer.len < <Py_ssize_t>sizeof(bus_segment):
            raise _errors.CorruptSegmentError("the file is shorter than a segment header")
        if limit == 0 or limit > <uint64_t>buffer.len:
            limit = buffer.len
        first = (<const bus_segment *>base).base_offset
        mixed = (<const bus_segment *>base).seed if seed is None else seed
        if offset is not None:
            first = offset
        elif start and sizeof(bus_frame) <= limit and start <= limit - sizeof(bus_frame):
            first = (<const bus_frame *>(base + start)).offset
        start = start or BUS_DATA_START
        with nogil:
            bus_scan_frames(base, start, limit, first, mixed, &scan)
        error = None
        if scan.error != BUS_FRAME_GOOD:
            error = bus_frame_state_text(scan.error).decode()
        return Scan(scan.end_position, scan.next_offset, scan.max_timestamp, bool(scan.sealed),
                    error)
    finally:
        PyBuffer_Release(&buffer)


def find_good(data, *, uint64_t start, uint64_t limit=0, uint64_t least=0, uint64_t most=UINT64_MAX,
              uint64_t seed):
    """(position, offset) of the first frame from `start` on that verifies and has an offset from
    `least` to `most`, or None. Behind damage, this is where the log goes on."""
    cdef Py_buffer buffer
    cdef uint64_t offset, position
    PyObject_GetBuffer(data, &buffer, PyBUF_SIMPLE)
    try:
        if limit == 0 or limit > <uint64_t>buffer.len:
            limit = buffer.len
        with nogil:
            position = bus_find_good(<const uint8_t *>buffer.buf, max(start, BUS_DATA_START), limit,
                                     least, most, seed, &offset)
        return (position, offset) if position else None
    finally:
        PyBuffer_Release(&buffer)


def find_offset(data, *, uint64_t base_offset, uint64_t offset, uint64_t seed, uint64_t limit=0):
    """Position of the record with that offset in a segment file, or None. `limit`: its bytes."""
    cdef Py_buffer buffer
    cdef uint64_t position
    PyObject_GetBuffer(data, &buffer, PyBUF_SIMPLE)
    try:
        if buffer.len < <Py_ssize_t>sizeof(bus_segment):
            raise _errors.CorruptSegmentError("the file is shorter than a segment header")
        if limit == 0 or limit > <uint64_t>buffer.len:
            limit = buffer.len
        with nogil:
            position = bus_find_offset(<const uint8_t *>buffer.buf, limit, base_offset, seed,
                                       offset)
        return position or None
    finally:
        PyBuffer_Release(&buffer)


def bad_index_entry(data, *, uint64_t base_offset, uint64_t seed):
    """Number of the first entry of a segment's index that leads to no frame, or None."""
    cdef Py_buffer buffer
    cdef int found
    PyObject_GetBuffer(data, &buffer, PyBUF_SIMPLE)
    try:
        if buffer.len < <Py_ssize_t>sizeof(bus_segment):
            raise _errors.CorruptSegmentError("the file is shorter than a segment header")
        with nogil:
            found = bus_bad_index_entry(<const uint8_t *>buffer.buf, buffer.len, base_offset, seed)
        return None if found < 0 else found
    finally:
        PyBuffer_Release(&buffer)


def segment_seed(uint64_t bus_id, uint64_t topic_id, uint32_t partition, uint64_t number):
    """What is mixed into the checksums of the frames of that segment."""
    return bus_segment_seed(bus_id, topic_id, partition, number)


cdef bytes new_header(uint64_t bus_id, uint64_t topic_id, uint32_t partition, uint64_t number,
                      uint64_t base_offset, uint64_t previous_end, uint64_t size):
    """Header and empty index of a segment, for a file whose own is damaged."""
    cdef bus_partition *control = <bus_partition *>calloc(1, sizeof(bus_partition))
    cdef bus_segment *segment = <bus_segment *>calloc(1, sizeof(bus_segment))
    try:
        if control == NULL or segment == NULL:
            raise MemoryError
        control.bus_id = bus_id
        control.topic_id = topic_id
        control.partition = partition
        bus_segment_begin(segment, control, number, base_offset, previous_end, size)
        return PyBytes_FromStringAndSize(<char *>segment, sizeof(bus_segment))
    finally:
        free(control)
        free(segment)


def gap_frame(uint64_t size, uint64_t offset, uint64_t end, uint64_t seed):
    """A frame of `size` bytes for the records from `offset` to before `end`, which are lost."""
    if not sizeof(bus_frame) <= size <= SEGMENT_BYTES_MAX:
        raise _errors.CorruptSegmentError(f"a gap of {size} bytes has no room for its frame")
    cdef bytearray frame = bytearray(size)
    bus_frame_write_gap(<uint8_t *>PyByteArray_AS_STRING(frame), 0, size, offset, end, seed)
    return bytes(frame)


def end_frame(uint64_t next_offset, uint64_t next_number, uint64_t seed):
    """The frame that ends a segment."""
    cdef bytearray frame = bytearray(sizeof(bus_frame))
    bus_frame_write_end(<uint8_t *>PyByteArray_AS_STRING(frame), 0, next_offset, next_number, seed)
    return bytes(frame)


def seal_segment(int fd, uint64_t position, uint64_t next_offset):
    """Ends a durable segment at that position, where a crash cut it: nothing behind it counts.

    The end frame and all before it are on disk before the header says that they are: a seal in
    front of frames that do not verify means that they were damaged later.
    """
    cdef uint64_t size = _os.fstat(fd).st_size
    cdef Mapping mapping = Mapping(fd, size, writable=True)
    cdef bus_segment *segment = <bus_segment *>mapping.base
    cdef bus_scan scan
    cdef int i
    if size < BUS_DATA_START + sizeof(bus_frame) or position > size - sizeof(bus_frame):
        raise _errors.CorruptSegmentError("no room for the end frame")
    bus_scan_frames(mapping.base, BUS_DATA_START, position, segment.base_offset, segment.seed,
                    &scan)
    for i in range(BUS_INDEX_ENTRIES):
        if segment.index[i].position >= position:
            memset(&segment.index[i], 0, sizeof(bus_index_entry))
    bus_frame_write_end(mapping.base, position, next_offset, segment.number + 1, segment.seed)
    _os.fsync(fd)
    segment.max_timestamp = scan.max_timestamp
    segment.end_position = position
    segment.end_offset = next_offset
    if mapping.mark[0]:
        raise OSError(EIO, "the file was truncated while it was being sealed")
    _os.fsync(fd)


cdef extern from "<fcntl.h>" nogil:
    int c_sync_file_range "sync_file_range" (int fd, int64_t offset, int64_t bytes, unsigned flags)
    unsigned SYNC_FILE_RANGE_WRITE


def sync_range(int fd, int64_t offset, int64_t length):
    """Starts writing a range to disk without waiting: a hint, no promise. Raises OSError."""
    cdef int result
    with nogil:
        result = c_sync_file_range(fd, offset, length, SYNC_FILE_RANGE_WRITE)
    if result != 0:
        raise OSError(errno, f"sync_file_range: {_os.strerror(errno)}")


cdef extern from "<sys/stat.h>" nogil:
    ctypedef struct c_statx "struct statx":
        uint32_t stx_dev_major, stx_dev_minor
        uint64_t stx_ino, stx_size
    int statx(int dir_fd, const char *name, int flags, unsigned mask, c_statx *found)
    unsigned STATX_INO, STATX_SIZE
    int AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW


def file_named(int dir_fd, str name):
    """(device, inode, bytes) of a file of a directory, or of the descriptor itself if name is "".

    os.stat asks for the times as well. A file system with fine-grained timestamps (ext4 since Linux
    6.13) then gives the next write a time of its own, and the sync after it has more to do: half as
    long again. Raises OSError.
    """
    cdef c_statx found
    cdef bytes path = _os.fsencode(name)
    cdef const char *at = path
    cdef int result
    with nogil:
        result = statx(dir_fd, at, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, STATX_INO | STATX_SIZE,
                       &found)
    if result != 0:
        raise OSError(errno, _os.strerror(errno), name)
    return _os.makedev(found.stx_dev_major, found.stx_dev_minor), found.stx_ino, found.stx_size
