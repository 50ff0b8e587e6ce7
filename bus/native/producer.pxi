# The way of a record into the log: serialize, choose the partition, append. All that is rare is in
# bus/producer.py, whose Producer extends this class.

#: Records that send_many appends under one lock and one wake-up.
cdef enum:
    BATCH = 128
    KEY_BYTES_MAX = 1048576
    NOT_HELD = -1 # length of a Py_buffer that needs no release

#: of a timestamp: in nanoseconds it has 63 bits
cdef int64_t MILLISECONDS_MAX = 9223372036854


cdef inline int64_t realtime_ns() noexcept:
    cdef timespec now
    clock_gettime(CLOCK_REALTIME, &now)
    return now.tv_sec * 1000000000 + now.tv_nsec


cdef int64_t timestamp_ns(object timestamp_ms) except -1:
    """Nanoseconds of a time that the program gives; None is now."""
    if timestamp_ms is None:
        return realtime_ns()
    if not 0 <= timestamp_ms <= MILLISECONDS_MAX: # a NaN is neither
        raise ValueError(f"timestamp_ms is {timestamp_ms!r}; it counts milliseconds since 1970, "
                         f"at most {MILLISECONDS_MAX}")
    return <int64_t>(timestamp_ms * 1000000)


@cython.final
cdef class Route:
    """A topic as one producer sees it: its partitions, and whose turn it is without a key."""
    cdef str topic
    cdef list logs
    cdef Py_ssize_t count
    cdef Py_ssize_t sticky
    cdef int64_t sticky_bytes # left before the next partition gets its turn

    def __init__(self, str topic, list logs, Py_ssize_t sticky):
        self.topic = topic
        self.logs = logs
        self.count = len(logs)
        self.sticky = sticky % self.count


cdef class ProducerCore:
    """The hot path of a Producer."""
    cdef dict routes
    cdef Route last
    cdef Table control
    cdef uint64_t catalog_seen
    cdef uint64_t born
    cdef bint closed
    cdef bint wait_durable
    cdef int64_t max_block_ns
    cdef int64_t sticky_bytes
    cdef object key_serializer
    cdef object value_serializer
    cdef object partitioner
    cdef readonly uint64_t records_sent
    cdef readonly uint64_t bytes_sent

    def _start(self, Table control, *, bint wait_durable, int64_t max_block_ns,
               int64_t sticky_bytes, key_serializer, value_serializer, partitioner):
        """Begins with no routes; again after a fork."""
        self.routes = {}
        self.last = None
        self.control = control
        self.catalog_seen = bus_load_acquire(&(<bus_control *>control.mapping.base).catalog_version)
        self.born = forks
        self.closed = False
        self.wait_durable = wait_durable
        self.max_block_ns = max_block_ns
        self.sticky_bytes = sticky_bytes
        self.key_serializer = key_serializer
        self.value_serializer = value_serializer
        self.partitioner = partitioner

    def _stop(self):
        self.closed = True
        self.last = None
        self.routes = {}

    @property
    def _closed(self):
        return self.closed

    cdef Route route(self, object topic):
        """Looks the topic up; anew after a fork and after every change of a topic."""
        cdef uint64_t version
        if self.closed or self.born != forks:
            self._revive()
        version = bus_load_acquire(&(<bus_control *>self.control.mapping.base).catalog_version)
        if version != self.catalog_seen:
            self.routes = {}
            self.last = None
            self.catalog_seen = version
        if self.last is not None and self.last.topic is topic:
            return self.last # most programs send to one topic, and name it by one str object
        found = self.routes.get(topic)
        if found is None:
            found = self._route(topic)
            self.routes[topic] = found
        self.last = <Route>found
        return self.last

    cdef HotLog choose(self, Route route, object partition, object key, uint64_t size):
        cdef Py_ssize_t index
        if partition is not None:
            try:
                index = partition
            except OverflowError:
                index = -1
            if not 0 <= index < route.count:
                raise _errors.UnknownTopicOrPartitionError(
                    f"topic {route.topic!r} has partitions 0..{route.count - 1}, not {partition}")
        elif key is None:
            route.sticky_bytes -= size + sizeof(bus_frame)
            if route.sticky_bytes < 0:
                route.sticky_bytes = self.sticky_bytes - size - sizeof(bus_frame)
                route.sticky = (route.sticky + 1) % route.count
            index = route.sticky
        elif route.count == 1:
            index = 0
        else:
            index = self.partitioner(key, route.count)
        return <HotLog>route.logs[index]

    cdef int check_size(self, HotLog log, str topic, bus_record *record) except -1:
        cdef uint64_t size = <uint64_t>record.key_length + record.headers_length
        cdef uint64_t most = bus_load_relaxed(&log.control.max_message_bytes)
        if most == 0: # of a page that is gone
            log.check()
        size += record.value_length
        if size > most:
            raise _errors.MessageSizeTooLargeError(
                f"the record takes {size} bytes, topic {topic!r} allows {most}; raise its "
                "max.message.bytes or send less")
        return 0

    def send(self, topic, value=None, key=None, headers=None, partition=None, timestamp_ms=None):
        """Appends one record to the topic's log; returns its RecordFuture.

        topic: name. value, key: bytes-like, or anything the serializers take; None is null.
        headers: list of (str, bytes). partition: number; else the key decides, else whose turn it
        is.
        timestamp_ms: of the record, milliseconds since the epoch; default now.

        Blocks up to max_block_ms while the log has no room. Raises MessageSizeTooLargeError,
        UnknownTopicOrPartitionError, SerializationError, BackpressureError, ClosedError; and
        OutcomeUnknownError if the bus left its hot directory meanwhile, which is not sent again.
        """
        try:
            return self.send_once(topic, value, key, headers, partition, timestamp_ms)
        except (_errors.BrokerNotRunningError, _errors.CorruptSegmentError,
                _errors.LockTimeoutError) as error:
            if not self._follow_move(error): # nothing of the record is in the log then
                raise
        return self.send_once(topic, value, key, headers, partition, timestamp_ms)

    cdef RecordFuture send_once(self, object topic, object value, object key, object headers,
                                object partition, object timestamp_ms):
        cdef bus_record record
        cdef bus_appended out
        cdef Route route = self.route(topic)
        cdef HotLog log
        cdef Py_buffer key_buffer, value_buffer
        cdef RecordFuture future
        if self.key_serializer is not None and key is not None:
            key = self.key_serializer(key)
        if self.value_serializer is not None and value is not None:
            value = self.value_serializer(value)
        packed = self._encode_headers(headers) if headers else None
        record.attributes = 0
        record.timestamp = timestamp_ns(timestamp_ms)
        key_buffer.len = value_buffer.len = NOT_HELD
        try:
            self.describe_key(key, packed, &record, &key_buffer)
            self.describe_value(value, &record, &value_buffer)
            log = self.choose(route, partition, key, record.value_length)
            self.check_size(log, route.topic, &record)
            self.finish(log, &record)
            out.done = out.attention = out.detail = 0
            log.append(&record, 1, record.value_length, self.max_block_ns, &out)
        finally:
            if key_buffer.len != NOT_HELD:
                PyBuffer_Release(&key_buffer)
            if value_buffer.len != NOT_HELD:
                PyBuffer_Release(&value_buffer)
        self.records_sent += 1
        self.bytes_sent += record.value_length
        future = RecordFuture.__new__(RecordFuture)
        self.resolve(future, route, log, &record, &out)
        return future

    cdef void resolve(self, RecordFuture future, Route route, HotLog log, const bus_record *record,
                      const bus_appended *out):
        future.producer = self
        future.log = log
        future.topic = route.topic
        future.offset = out.last_offset
        future.timestamp = out.last_timestamp
        future.key_size = -1 if record.attributes & BUS_ATTR_NULL_KEY else record.key_length
        future.value_size = -1 if record.attributes & BUS_ATTR_NULL_VALUE else record.value_length

    cdef int describe_key(self, object key, bytes packed, bus_record *record,
                          Py_buffer *buffer) except -1:
        record.key_length = 0
        record.headers_length = 0
        if packed is not None:
            record.headers = PyBytes_AS_STRING(packed)
            record.headers_length = <uint16_t>PyBytes_GET_SIZE(packed)
        if key is None:
            record.attributes |= BUS_ATTR_NULL_KEY
            return 0
        self.buffer_of(key, buffer, "key")
        if buffer.len > KEY_BYTES_MAX:
            raise _errors.MessageSizeTooLargeError(
                f"the key takes {buffer.len} bytes, the limit is {KEY_BYTES_MAX}")
        record.key = buffer.buf
        record.key_length = <uint32_t>buffer.len
        return 0

    cdef int describe_value(self, object value, bus_record *record, Py_buffer *buffer) except -1:
        """Says where the value's bytes are; anything but bytes is held until the append is done."""
        record.parts = NULL
        if type(value) is bytes:
            record.value = PyBytes_AS_STRING(value)
            record.value_length = <uint32_t>min(PyBytes_GET_SIZE(value), <Py_ssize_t>0xffffffff)
        elif value is None:
            record.value_length = 0
            record.attributes |= BUS_ATTR_NULL_VALUE
        elif type(value) is Parts:
            (<Parts>value).describe(record)
        else:
            self.buffer_of(value, buffer, "value")
            record.value = buffer.buf
            record.value_length = <uint32_t>min(buffer.len, <Py_ssize_t>0xffffffff)
        return 0

    cdef void finish(self, HotLog log, bus_record *record) noexcept:
        """What can be done before the lock is taken, the checksum of the body above all."""
        if record.value_length >= BUS_ALIGNED_VALUE:
            record.attributes |= BUS_ATTR_ALIGNED
        if log.control.flags & BUS_FLAG_APPEND_TIME:
            record.attributes |= BUS_ATTR_APPEND_TIME
        if record.value_length >= BUS_BARE_VALUE and not log.replicated:
            record.attributes |= BUS_ATTR_BARE_VALUE
        if record.value_length < NOGIL_BYTES:
            record.body_crc = bus_body_crc(record)
        else:
            with nogil:
                record.body_crc = bus_body_crc(record)

    cdef int buffer_of(self, object data, Py_buffer *buffer, str what) except -1:
        if isinstance(data, str) or not PyObject_CheckBuffer(data):
            raise _errors.SerializationError(
                f"the {what} must be bytes-like or None, not {type(data).__name__}; encode it or "
                f"give the producer a {what}_serializer")
        try:
            return PyObject_GetBuffer(data, buffer, PyBUF_SIMPLE)
        except BufferError as error:
            raise _errors.SerializationError(f"the {what} is not contiguous: {error}") from error

    def send_many(self, topic, values, *, keys=None, partition=None):
        """Appends many records with few locks and wake-ups; returns the future of the last one.

        values: sequence, serialized like send's. keys: sequence of the same length, or None.
        Without keys all go to one partition, in order; with keys each goes where its key belongs,
        and the order within a partition is kept. Raises what send raises; records before the
        failing one may have been appended then.
        """
        cdef Route route = self.route(topic)
        values = list(values)
        if keys is not None:
            return self._send_keyed(topic, values, list(keys), partition)
        if not values:
            raise ValueError("send_many needs at least one value")
        cdef uint64_t size = sum([len(value) for value in values if type(value) is bytes])
        cdef HotLog log = self.choose(route, partition, None, size)
        return self.append_many(route, log, values, None)

    def _send_group(self, topic, Py_ssize_t partition, list values, list keys):
        cdef Route route = self.route(topic)
        return self.append_many(route, <HotLog>route.logs[partition], values, keys)

    def _partition_of(self, topic, key, partition):
        """Where send would put a record with this (serialized) key."""
        return self.choose(self.route(topic), partition, key, 0).partition

    cdef RecordFuture append_many(self, Route route, HotLog log, list values, list keys):
        cdef bus_record records[BATCH]
        cdef Py_buffer key_buffers[BATCH]
        cdef Py_buffer value_buffers[BATCH]
        cdef Py_ssize_t at = 0, count = 0, i, total = len(values)
        cdef RecordFuture future = RecordFuture.__new__(RecordFuture)
        cdef bus_appended out
        while at < total:
            count = min(total - at, <Py_ssize_t>BATCH)
            kept = []
            out.done = out.attention = out.detail = 0
            for i in range(count):
                key_buffers[i].len = value_buffers[i].len = NOT_HELD
            try:
                for i in range(count):
                    key = None if keys is None else keys[at + i]
                    self.fill_one(route, log, values[at + i], key, &records[i], &key_buffers[i],
                                  &value_buffers[i], kept)
                self.append_batch(log, records, count, &out)
            finally:
                self.records_sent += out.done
                for i in range(count):
                    if key_buffers[i].len != NOT_HELD:
                        PyBuffer_Release(&key_buffers[i])
                    if value_buffers[i].len != NOT_HELD:
                        PyBuffer_Release(&value_buffers[i])
            at += count
        self.resolve(future, route, log, &records[count - 1], &out)
        return future

    cdef int fill_one(self, Route route, HotLog log, object value, object key, bus_record *record,
                      Py_buffer *key_buffer, Py_buffer *value_buffer, list kept) except -1:
        """Describes one record of a batch; `kept` keeps serialized bytes alive until the append."""
        record.attributes = 0
        self.describe_key(key, None, record, key_buffer)
        if self.value_serializer is not None and value is not None:
            value = self.value_serializer(value)
            kept.append(value)
        self.describe_value(value, record, value_buffer)
        self.check_size(log, route.topic, record)
        self.finish(log, record)
        return 0

    cdef int append_batch(self, HotLog log, bus_record *records, Py_ssize_t count,
                          bus_appended *out) except -1:
        cdef uint64_t size = 0
        cdef int64_t now = realtime_ns()
        cdef Py_ssize_t i
        for i in range(count):
            records[i].timestamp = now
            size += records[i].value_length
        self.bytes_sent += size
        log.append(records, count, size, self.max_block_ns, out)
        return 0
