# What the C core offers. Field lists name only what this shell touches.
from libc.stdint cimport (
    INT64_MAX, INT64_MIN, UINT64_MAX, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t,
)
from libc.string cimport memcmp, memcpy, memset
from libc.errno cimport EIO, ENOMEM, errno
from cpython.buffer cimport (
    PyBUF_SIMPLE, PyBUF_WRITABLE, Py_buffer, PyBuffer_FillInfo, PyBuffer_Release,
    PyObject_CheckBuffer, PyObject_GetBuffer,
)
from libc.stdlib cimport calloc, free
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from cpython.memoryview cimport PyMemoryView_FromMemory, PyMemoryView_FromObject
from cpython.object cimport PyObject
from cpython.pythread cimport PyThread_get_thread_ident
cimport cython

cdef extern from "layout_names.h" nogil:
    ctypedef struct bus_layout_name:
        const char *name
        uint64_t value
    const bus_layout_name bus_layout_names[]

cdef extern from "layout.h" nogil:
    enum:
        BUS_CLIENTS, BUS_RING_SLOTS, BUS_READERS, BUS_INDEX_ENTRIES, BUS_ALIGNED_VALUE
        BUS_VALUE_ALIGN
        BUS_DATA_START, BUS_LAYOUT_VERSION, BUS_TYPE_MASK, BUS_TYPE_RECORD, BUS_TYPE_PAD
        BUS_TYPE_END, BUS_TYPE_CONTROL, BUS_ATTR_APPEND_TIME, BUS_ATTR_NULL_KEY
        BUS_ATTR_NULL_VALUE, BUS_ATTR_ALIGNED, BUS_ATTR_BARE_VALUE, BUS_BARE_VALUE
        BUS_MOAT_BYTES, BUS_CANARY_BYTES, BUS_FLAG_REPLICATED, BUS_FLAG_DROP
        BUS_FLAG_APPEND_TIME, BUS_FLAG_DELETED, BUS_LOST_RANGES
    const uint64_t BUS_MAGIC_BUS
    const uint64_t BUS_MAGIC_PARTITION
    const uint64_t BUS_MAGIC_SEGMENT
    ctypedef struct bus_mutex:
        pass
    ctypedef struct bus_client:
        uint64_t generation
    ctypedef struct bus_control:
        uint64_t magic
        uint64_t bus_id
        uint64_t hot_id
        uint64_t catalog_version
        uint32_t stopping
        bus_client clients[1024]
    ctypedef struct bus_sleepers:
        uint64_t summary
    ctypedef struct bus_end:
        uint64_t tail
        uint64_t next_offset
        int64_t max_timestamp
    ctypedef struct bus_ring_slot:
        uint64_t serial
        uint64_t bytes
        uint64_t base_offset
        uint64_t end_offset
    ctypedef struct bus_reader:
        uint32_t owner
        uint32_t flags
        uint64_t generation
        uint64_t position
        uint64_t pins
    ctypedef struct bus_lost:
        uint64_t first
        uint64_t end
        uint64_t check
    ctypedef struct bus_synced:
        uint64_t position
        uint64_t offset
        uint32_t crc
    ctypedef struct bus_partition:
        uint64_t magic
        uint32_t version
        uint32_t bytes
        uint64_t bus_id
        uint64_t topic_id
        uint32_t partition
        uint64_t gap_start
        uint64_t gap_end
        uint32_t flags
        uint64_t segment_bytes
        uint64_t hot_bytes
        uint64_t max_message_bytes
        uint64_t offset_limit
        uint64_t log_start_offset
        bus_mutex lock
        uint64_t tail
        uint64_t lag_gate
        uint64_t lag_tail
        uint64_t lag_from
        bus_end ends[2]
        uint64_t high_watermark
        uint32_t replica_pid
        uint32_t replica_state
        uint64_t replica_fsync_ns
        uint64_t replica_sync_began_ns
        uint64_t deaths_repaired
        uint64_t rolls
        uint64_t recycled
        uint64_t dropped_records
        uint64_t corrupt_frames
        uint64_t segments_given_up
        uint64_t repaired_reads
        bus_sleepers data
        bus_sleepers durable
        bus_sleepers space
        uint64_t ring_numbers[64]
        bus_ring_slot ring[64]
        uint64_t readers_high
        bus_reader readers[1024]
    ctypedef struct bus_index_entry:
        uint32_t position
        uint32_t relative_offset
        int64_t max_timestamp
    ctypedef struct bus_segment:
        uint64_t magic
        uint32_t version
        uint32_t header_crc
        uint64_t bus_id
        uint64_t topic_id
        uint32_t partition
        uint32_t data_start
        uint64_t number
        uint64_t base_offset
        uint64_t previous_end
        uint64_t bytes
        int64_t created_ns
        uint64_t seed
        uint64_t reserved[5]
        uint64_t end_offset
        uint64_t end_position
        int64_t max_timestamp
        bus_synced synced[2]
        bus_index_entry index[512]
    ctypedef struct bus_frame:
        uint32_t size
        uint32_t crc
        uint64_t offset
        int64_t timestamp
        uint32_t value_length
        uint16_t attributes
        uint16_t headers_length
        uint32_t key_length
        uint64_t producer

cdef extern from "atomics.h" nogil:
    uint64_t bus_load_acquire(const uint64_t *word)
    uint64_t bus_load_relaxed(const uint64_t *word)
    void bus_store_release(uint64_t *word, uint64_t value)
    uint64_t bus_fetch_add(uint64_t *word, uint64_t value)
    uint32_t bus_load32_acquire(const uint32_t *word)
    uint32_t bus_load32_relaxed(const uint32_t *word)
    void bus_store32_release(uint32_t *word, uint32_t value)
    void bus_fence_full()
    void bus_fence_acquire()
    void bus_cpu_relax()

cdef extern from "crc32c.h" nogil:
    uint32_t (*bus_crc32c)(uint32_t crc, const void *data, size_t length)
    int bus_crc32c_has_hardware()

cdef extern from "reader.h" nogil:
    bus_reader *bus_reader_attach(bus_partition *control, int client, uint64_t generation,
                                  uint32_t flags, uint64_t position)
    int bus_readers_reap(bus_partition *control, int client, uint64_t generation, int claims)
    bint bus_reader_has(const bus_partition *control, int client)
    bint bus_reader_attached(const bus_reader *reader)
    uint64_t bus_readers_high(const bus_partition *control)

cdef extern from "lock.h" nogil:
    enum bus_lock_result:
        BUS_LOCK_TAKEN, BUS_LOCK_OWNER_DIED, BUS_LOCK_BUSY, BUS_LOCK_LOST
    int bus_lock_create(bus_mutex *lock)
    bus_lock_result bus_lock_nowait(bus_mutex *lock)
    bus_lock_result bus_lock_wait(bus_mutex *lock, int64_t timeout_ns)
    void bus_lock_repaired(bus_mutex *lock)
    void bus_lock_inherit(bus_mutex *lock)
    void bus_lock_mended(bus_mutex *lock)
    bint bus_lock_unrepaired(const bus_mutex *lock)
    void bus_unlock(bus_mutex *lock)
    bint bus_lock_is_free(const bus_mutex *lock)
    uint32_t bus_lock_owner(const bus_mutex *lock)
    int64_t bus_now_ns()

cdef extern from "frame.h" nogil:
    ctypedef struct bus_part:
        const void *data
        uint64_t at
        uint64_t length
    ctypedef struct bus_record:
        const void *key
        const void *headers
        const void *value
        const bus_part *parts
        uint32_t part_count
        uint32_t key_length
        uint32_t value_length
        uint16_t headers_length
        uint16_t attributes
        uint32_t body_crc
        int64_t timestamp
    enum bus_frame_state:
        BUS_FRAME_GOOD, BUS_FRAME_BAD_OFFSET
    uint32_t bus_body_crc(const bus_record *record)
    const uint8_t *bus_frame_key(const uint8_t *at)
    const uint8_t *bus_frame_headers(const uint8_t *at, const bus_frame *header)
    const uint8_t *bus_frame_value(const uint8_t *at, const bus_frame *header, uint64_t position)
    bus_frame_state bus_frame_read(const uint8_t *base, uint64_t position, uint64_t limit,
                                   uint64_t expected, uint64_t seed, bint check_crc,
                                   bus_frame *header)
    void bus_frame_write_gap(uint8_t *base, uint64_t position, uint64_t size, uint64_t offset,
                             uint64_t end, uint64_t seed)
    void bus_frame_write_end(uint8_t *base, uint64_t position, uint64_t next_offset,
                             uint64_t next_number, uint64_t seed)
    bus_frame_state bus_frame_check(const uint8_t *base, uint64_t position, uint64_t limit,
                                    uint64_t expected, uint64_t seed, int check_crc)
    const char *bus_frame_state_text(bus_frame_state state)

cdef extern from "durable.h" nogil:
    void bus_publish_durable(bus_partition *control, uint64_t offset)
    uint64_t bus_durable_end(const bus_partition *control)
    void bus_note_lost(bus_partition *control, uint64_t first, uint64_t end)
    int bus_lost_range(const bus_partition *control, int index, uint64_t *first, uint64_t *end)
    int bus_is_lost(const bus_partition *control, uint64_t offset, bus_lost *found)

cdef extern from "lag.h" nogil:
    void bus_lag_set(bus_partition *control, uint64_t gate, uint64_t tail, uint64_t origin)
    void bus_lag_close(bus_partition *control, int limited)
    int bus_lag_moved(bus_partition *control, int64_t offset)

cdef extern from "log.h" nogil:
    ctypedef struct bus_log:
        bus_partition *control
        uint8_t *maps[64]
        uint64_t map_serials[64]
        uint64_t map_bytes[64]
        const uint32_t *map_marks[64]
        int active_slot
    enum bus_append_status:
        BUS_APPENDED, BUS_NEED_MAP, BUS_WAIT_SPARE, BUS_WAIT_REPLICA, BUS_WAIT_READER
        BUS_WAIT_OFFSETS, BUS_WAIT_LAG, BUS_TOPIC_DELETED, BUS_BROKEN
    ctypedef struct bus_appended:
        uint64_t done
        uint64_t last_offset
        int64_t last_timestamp
        uint64_t detail
        int attention
    bus_append_status bus_log_append(bus_log *log, bus_record *records, uint64_t count,
                                     bus_appended *out)
    bus_append_status bus_log_roll(bus_log *log, uint64_t need, bus_appended *out)
    void bus_log_retire_before(bus_partition *control, uint64_t offset)
    uint64_t bus_log_end(const bus_partition *control, uint64_t *next_offset)
    uint64_t bus_hot_start(const bus_partition *control)
    int bus_slot_of(const bus_partition *control, uint64_t number)
    int bus_pin(bus_partition *control, bus_reader *reader, int slot, uint64_t number)
    void bus_unpin(bus_reader *reader, int slot)
    int bus_is_pinned(const bus_partition *control, int slot)
    void bus_segment_begin(bus_segment *segment, const bus_partition *control, uint64_t number,
                           uint64_t base_offset, uint64_t previous_end, uint64_t bytes)
    uint64_t bus_segment_seed(uint64_t bus_id, uint64_t topic_id, uint32_t partition,
                              uint64_t number)
    uint64_t BUS_TAIL(uint64_t number, uint64_t position)
    uint64_t BUS_TAIL_NUMBER(uint64_t tail)
    uint64_t BUS_TAIL_POSITION(uint64_t tail)

cdef extern from "ring.h" nogil:
    uint64_t bus_ring_wanted(const bus_partition *control, uint64_t need)
    int bus_ring_add(bus_partition *control, uint64_t serial, uint64_t bytes)
    uint64_t bus_ring_drop_surplus(bus_partition *control, uint64_t need)

cdef extern from "segment.h" nogil:
    ctypedef struct bus_scan:
        uint64_t end_position
        uint64_t next_offset
        int64_t max_timestamp
        int sealed
        bus_frame_state error
    void bus_scan_frames(const uint8_t *base, uint64_t position, uint64_t limit,
                         uint64_t next_offset, uint64_t seed, bus_scan *out)
    uint64_t bus_copy_frames(const uint8_t *base, uint64_t position, uint64_t limit,
                             uint64_t next_offset, uint64_t seed, uint8_t *target, uint64_t room,
                             bus_scan *out)
    uint64_t bus_find_offset(const uint8_t *base, uint64_t limit, uint64_t base_offset,
                             uint64_t seed, uint64_t offset)
    int bus_bad_index_entry(const uint8_t *base, uint64_t limit, uint64_t base_offset,
                            uint64_t seed)
    uint64_t bus_find_good(const uint8_t *base, uint64_t position, uint64_t limit, uint64_t least,
                           uint64_t most, uint64_t seed, uint64_t *offset)
    uint64_t bus_offset_after(const bus_frame *frame, uint64_t offset)
    uint64_t bus_find_time(const uint8_t *base, uint64_t limit, int64_t timestamp,
                           uint64_t *offset, int64_t *found)
    const char *bus_segment_header_error(const bus_segment *segment, uint64_t file_bytes)

cdef extern from "guest.h" nogil:
    uint64_t bus_guest_copy(const uint8_t *base, uint64_t position, uint64_t limit,
                            uint64_t next_offset, uint8_t *target, uint64_t room, int check_crc,
                            bus_scan *out)

cdef extern from "guard.h" nogil:
    int bus_guard_add(const void *base, uint64_t bytes, int writable)
    void bus_guard_remove(int place)
    const uint32_t *bus_guard_mark(int place)

cdef extern from "murmur2.h" nogil:
    uint32_t bus_murmur2(const void *data, size_t length)

cdef extern from "wait.h" nogil:
    ctypedef struct bus_bells:
        bus_control *control
    enum:
        BUS_BELL_NAME
    void bus_bell_name(const bus_control *control, int slot, char *name)
    int bus_bell_create(const char *name)
    void bus_bell_ring(bus_bells *bells, int slot)
    int bus_bell_wait(bus_bells *bells, int slot, int64_t timeout_ns)
    void bus_bells_close(bus_bells *bells)
    void bus_sleeper_set(bus_sleepers *sleepers, int slot)
    void bus_sleeper_clear(bus_sleepers *sleepers, int slot)
    int bus_wake(bus_sleepers *sleepers, bus_bells *bells)

cdef extern from "<sys/mman.h>" nogil:
    void *mmap(void *address, size_t length, int protection, int flags, int fd, int64_t offset)
    int munmap(void *address, size_t length)
    int madvise(void *address, size_t length, int advice)
    int PROT_READ, PROT_WRITE, MAP_SHARED, MAP_PRIVATE, MAP_ANONYMOUS, MAP_NORESERVE
    void *MAP_FAILED

cdef extern from "<time.h>" nogil:
    struct timespec:
        int64_t tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec *now)
    int CLOCK_REALTIME

cdef extern from "unistd.h" nogil:
    int usleep(unsigned int microseconds)
