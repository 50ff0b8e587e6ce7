# Values that are gathered from several buffers, and values that are taken where they lie.

@cython.final
cdef class Parts:
    """A value in several pieces: `send` copies each of them once, straight into the log.

    buffers: bytes-like objects, contiguous; they are held, and must not change, until they are
    sent. align: each part begins on a multiple of so many bytes, a power of two up to 64, with
    zeros in front of it. The value itself always begins on a multiple of 64, however small it is.

    Raises SerializationError.
    """
    cdef bus_part *parts
    cdef Py_buffer *held
    cdef uint32_t count
    cdef readonly uint64_t nbytes # of the whole value

    def __cinit__(self, buffers, *, uint64_t align=BUS_VALUE_ALIGN):
        if align == 0 or align & (align - 1) or align > BUS_VALUE_ALIGN:
            raise ValueError(f"align is {align}; it must be a power of two up to "
                             f"{BUS_VALUE_ALIGN}")
        listed = list(buffers)
        self.parts = <bus_part *>calloc(len(listed) + 1, sizeof(bus_part))
        self.held = <Py_buffer *>calloc(len(listed) + 1, sizeof(Py_buffer))
        if self.parts == NULL or self.held == NULL:
            raise MemoryError
        for buffer in listed:
            self.add(buffer, align)

    def __dealloc__(self):
        if self.held != NULL:
            for i in range(self.count):
                PyBuffer_Release(&self.held[i])
        free(self.held)
        free(self.parts)

    cdef int add(self, object data, uint64_t align) except -1:
        cdef Py_buffer *buffer = &self.held[self.count]
        cdef bus_part *part = &self.parts[self.count]
        if not PyObject_CheckBuffer(data):
            raise _errors.SerializationError(
                f"a part of a value must be bytes-like, not {type(data).__name__}")
        try:
            PyObject_GetBuffer(data, buffer, PyBUF_SIMPLE)
        except (BufferError, ValueError) as error:
            raise _errors.SerializationError(
                f"a part of a value cannot be read: {error}") from error
        self.count += 1
        part.data = buffer.buf
        part.at = (self.nbytes + align - 1) & ~(align - 1)
        part.length = buffer.len
        self.nbytes = part.at + part.length
        return 0

    cdef void describe(self, bus_record *record) noexcept:
        """The record's value is gathered from these; they must live until it is appended."""
        record.parts = self.parts
        record.part_count = self.count
        record.value_length = <uint32_t>min(self.nbytes, <uint64_t>0xffffffff)
        record.attributes |= BUS_ATTR_ALIGNED

    def join(self):
        """The value as bytes: a copy, as a reader finds it."""
        joined = bytearray(self.nbytes)
        cdef char *value = PyByteArray_AS_STRING(joined)
        for i in range(self.count):
            memcpy(value + self.parts[i].at, self.parts[i].data, self.parts[i].length)
        return bytes(joined)

    def __repr__(self):
        return f"<Parts: {self.nbytes} bytes in {self.count} parts>"


@cython.final
cdef class InPlace:
    """Marks a deserializer of values that takes them where they lie, as a read-only memoryview.

    What it returns may refer to that memory, which stays as it is for as long as it is held.
    """
    cdef object deserializer

    def __init__(self, deserializer):
        self.deserializer = deserializer

    def __call__(self, data):
        return self.deserializer(data)
