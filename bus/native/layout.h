/* layout.h: every byte that two processes share, and nothing else.
 *
 * This header is the single place where bytes are laid out. C code uses the structs; Python reads
 * the offsets and sizes that the Cython shell exports from here. docs/design.md draws the same
 * bytes as diagrams and says who writes each word, in which memory order.
 *
 * Words are little-endian. Files start with a magic number and LAYOUT_VERSION; refuse all others.
 */
#ifndef BUS_LAYOUT_H
#define BUS_LAYOUT_H

#include <assert.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#define BUS_LAYOUT_VERSION 1u

#define BUS_MAGIC_BUS 0x3130537542737542ull       /* "BusBuS01": bus.ctl */
#define BUS_MAGIC_PARTITION 0x3130727450737542ull /* "BusPtr01": one per partition */
#define BUS_MAGIC_SEGMENT 0x3130676553737542ull   /* "BusSeg01": hot and durable segments */
#define BUS_MAGIC_MEMBERS 0x31306d654d737542ull   /* "BusMem01": group members, volatile */
#define BUS_MAGIC_OFFSETS 0x3130736f50737542ull   /* "BusPos01": group offsets, durable */

enum {
    BUS_CACHE_LINE = 64,
    BUS_PAGE = 4096,
    BUS_CLIENTS = 1024,      /* client slots in bus.ctl; also bits in a sleeper bitmap */
    BUS_RING_SLOTS = 64,     /* hot segment files of one partition; also bits in a pin bitmap */
    BUS_READERS = 1024,      /* readers attached to one partition */
    BUS_LOST_RANGES = 64,    /* ranges of lost records that a partition remembers */
    BUS_INDEX_ENTRIES = 512, /* sparse index entries of one segment */
    BUS_FRAME_ALIGN = 8,     /* every frame starts and ends on this boundary */
    BUS_VALUE_ALIGN = 64,    /* values of BUS_ALIGNED_VALUE bytes and more start on this boundary */
    BUS_ALIGNED_VALUE = 1024,
    BUS_BARE_VALUE = 65536,  /* values this large have no checksum in a memory topic */
    BUS_MUTEX_BYTES = 64,    /* room for a pthread_mutex_t: 40 bytes on x86-64, 48 on aarch64 */
    BUS_GROUP_MEMBERS = 256,     /* members of one group */
    BUS_GROUP_PARTITIONS = 4096, /* partitions that one group can own */
    BUS_MEMBER_TOPICS = 224,     /* topics one member can subscribe to */
    BUS_INCIDENTS = 64,          /* counters of incidents in bus.ctl */
    BUS_MOAT_BYTES = 65536,      /* behind bus.ctl and the control pages: never touched, so that */
    BUS_CANARY_BYTES = 65536,    /* no fault brings a page of the canary behind it into a process */
};

typedef union {
    pthread_mutex_t mutex;
    struct {
        char room[BUS_MUTEX_BYTES - 4];
        uint32_t unrepaired; /* 1 from a holder's death until what it left is repaired */
    };
} bus_mutex;
static_assert(sizeof(bus_mutex) == BUS_MUTEX_BYTES, "a robust mutex fits its room");
static_assert(sizeof(pthread_mutex_t) <= BUS_MUTEX_BYTES - 4, "and leaves the last word");

/* ------------------------------------------------------------------------------- bus.ctl
 * One per bus, in the hot directory. Made by the broker; lives as long as the hot directory.
 */
typedef struct {
    uint32_t state;      /* 0 free, 1 attached. Release-stored last by the client that took it */
    uint32_t pid;        /* for people; proof of life is the lock on byte `slot` of clients.lock */
    uint64_t generation; /* changes with every attach; part of the doorbell's name */
    uint64_t start_ticks; /* field 22 of /proc/PID/stat, for people and messages */
    uint32_t role;       /* 1 producer, 2 consumer, 3 admin, 4 replica */
    uint32_t reserved;
    char client_id[96];  /* UTF-8, zero-terminated */
} bus_client;
static_assert(sizeof(bus_client) == 128, "client slot");

typedef struct {
    uint64_t magic;
    uint32_t version;
    uint32_t bytes;           /* of this file */
    uint64_t bus_id;          /* random, the same as in bus.json */
    uint64_t hot_id;          /* random for every new hot directory; part of doorbell names */
    uint64_t pid_namespace;   /* inode of /proc/self/ns/pid: attaching from another is refused */
    uint64_t reserved[3];
    /* ---- next cache line: changed by the broker alone */
    uint64_t epoch;           /* of the broker, raised at every start */
    uint64_t catalog_version; /* raised after every change of a topic: clients look again */
    uint64_t next_generation; /* fetch-added by attaching clients */
    uint32_t broker_pid;      /* for messages */
    uint32_t stopping;        /* 1: the bus is being stopped; blocked clients give up */
    uint64_t reserved2[4];
    /* ---- two lines on: fetch-added by whoever meets one, for people (bus/incidents.py) */
    uint64_t incidents[BUS_INCIDENTS];
    char room[BUS_PAGE - 128 - BUS_INCIDENTS * 8];
    bus_client clients[BUS_CLIENTS];
} bus_control;
static_assert(offsetof(bus_control, epoch) == 64, "broker line");
static_assert(offsetof(bus_control, incidents) == 128, "incidents");
static_assert(offsetof(bus_control, clients) == BUS_PAGE, "client table");

/* ------------------------------------------------------------- partition control, TOPIC-P.ctl
 * `tail` publishes. The two `ends` say what a tail means: exactly one of them carries the current
 * tail, the other is rewritten before the next publication, so a death at any instruction leaves
 * a tail whose end is whole, and nothing needs repair.
 */
typedef struct {
    uint64_t tail;          /* the tail this end belongs to */
    uint64_t next_offset;   /* log end offset at that tail */
    int64_t max_timestamp;  /* ns, largest in the segment of that tail; INT64_MIN when empty */
    uint64_t reserved;
} bus_end;

typedef struct { /* who wants to be woken: bit i is client slot i */
    uint64_t summary; /* bit w set: look at word w */
    uint64_t reserved[7];
    uint64_t words[BUS_CLIENTS / 64];
} bus_sleepers;
static_assert(sizeof(bus_sleepers) == 192, "three cache lines");

typedef struct { /* a high watermark that vouches for itself; see bus_durable_end */
    uint64_t offset; /* every offset below it is verified and on disk */
    uint64_t check;  /* of the offset and the partition; stored last. Random bytes do not fit */
} bus_mark;

typedef struct { /* one hot segment file; written under the mutex only */
    uint64_t serial;      /* names the file TOPIC-P.SERIAL.seg; 0: the slot has no file */
    uint64_t bytes;       /* of the file */
    uint64_t base_offset; /* of the segment now in it */
    uint64_t end_offset;  /* log end when the segment was sealed; 0 while it is active */
    uint64_t reserved[4];
} bus_ring_slot;
static_assert(sizeof(bus_ring_slot) == BUS_CACHE_LINE, "ring slot");

typedef struct { /* one attached reader; written by that reader alone, freed by whoever reaps it */
    uint32_t owner;      /* client slot + 1; 0: free */
    uint32_t flags;      /* bit 0: a retiring ring must wait for `position` */
    uint64_t generation; /* of the owning client */
    uint64_t position;   /* every record below it has been consumed */
    uint64_t pins;       /* bit s: this reader may look into ring slot s */
    uint64_t reserved[4];
} bus_reader;
static_assert(sizeof(bus_reader) == BUS_CACHE_LINE, "reader slot");

#define BUS_READER_CLAIMED 0x80000000u /* in `owner`: taken, the other words are being filled in */

enum { /* bus_partition.flags */
    BUS_FLAG_REPLICATED = 1, /* durability=replicated: the ring waits for the high watermark */
    BUS_FLAG_DROP = 2,       /* overflow=drop: the ring waits for nobody */
    BUS_FLAG_APPEND_TIME = 4, /* message.timestamp.type=LogAppendTime */
    BUS_FLAG_DELETED = 8,    /* the topic is gone */
};

typedef struct { /* records that never became durable, and never will */
    uint64_t first;
    uint64_t end;
    uint64_t check; /* of first, end and the partition; stored last */
} bus_lost;
static_assert(sizeof(bus_lost) == 24, "lost range");

enum { BUS_REPLICA_NONE = 0, BUS_REPLICA_RUNNING = 1, BUS_REPLICA_FAILED = 2 };

typedef struct {
    /* ---- line 0: identity, written once, before the file can be seen */
    uint64_t magic;
    uint32_t version;
    uint32_t bytes;
    uint64_t bus_id;
    uint64_t topic_id;
    uint32_t partition;
    uint32_t reserved0;
    uint64_t gap_start, gap_end; /* offsets that the recovery of this log skipped: no lag */
    uint64_t reserved1[1];
    /* ---- line 1: settings, changed by the broker alone */
    uint32_t flags;
    uint32_t reserved2;
    uint64_t segment_bytes;     /* a new hot segment is this large, once the partition has grown */
    uint64_t hot_bytes;         /* the ring grows up to this */
    uint64_t max_message_bytes; /* key + headers + value */
    uint64_t offset_limit;      /* no offset at or above it may be given out: it is on disk */
    uint64_t log_start_offset;  /* smallest offset that may still be read */
    uint64_t reserved3[2];
    /* ---- line 2: the lock; held by appenders, rollers and whoever changes the ring */
    bus_mutex lock;
    /* ---- line 3: the publication */
    uint64_t tail;              /* segment number << 32 | position; store-released last */
    uint64_t lag_gate, lag_tail, lag_from; /* hold appenders up; closed: 1 (bus/lag_gate.py) */
    uint64_t reserved4[4];
    /* ---- line 4: what the tail means */
    bus_end ends[2];
    /* ---- line 5: the replica's, written by it alone */
    uint64_t high_watermark;    /* what to wait for; believed only if a mark says the same */
    uint32_t replica_pid;
    uint32_t replica_state;
    uint64_t replica_fsync_ns;  /* duration of its last fdatasync */
    uint64_t replica_sync_began_ns; /* since when durability waits for a sync; 0: it does not */
    uint64_t reserved5[4];
    /* ---- line 6: counters, for people */
    uint64_t deaths_repaired;   /* EOWNERDEAD seen on the lock */
    uint64_t rolls;
    uint64_t recycled;          /* rolls that reused a warm file */
    uint64_t dropped_records;   /* overwritten before a reader came (overflow=drop) */
    uint64_t corrupt_frames;    /* seen by readers or the replica */
    uint64_t segments_given_up; /* rolled past because their file was not what it must be */
    uint64_t repaired_reads;    /* records read from the other copy, because one was damaged */
    uint64_t reserved6[1];
    /* ---- lines 7..15: who to wake */
    bus_sleepers data;          /* wait for the tail */
    bus_sleepers durable;       /* wait for the high watermark */
    bus_sleepers space;         /* wait for room in the ring */
    /* ---- line 16: the replica's, what it publishes is believed by */
    bus_mark marks[2];
    /* ---- what the replica could not copy */
    bus_lost lost[BUS_LOST_RANGES];
    char room[BUS_PAGE - 2592 - BUS_RING_SLOTS * 8];
    uint64_t ring_numbers[BUS_RING_SLOTS]; /* segment number in each slot; 0: nothing current */
    bus_ring_slot ring[BUS_RING_SLOTS];
    uint64_t readers_high;      /* no reader slot at or above it was ever used */
    uint64_t reserved7[BUS_PAGE / 8 - 1];
    bus_reader readers[BUS_READERS];
} bus_partition;
static_assert(offsetof(bus_partition, flags) == 64, "settings line");
static_assert(offsetof(bus_partition, lock) == 128, "lock line");
static_assert(offsetof(bus_partition, tail) == 192, "tail line");
static_assert(offsetof(bus_partition, ends) == 256, "ends line");
static_assert(offsetof(bus_partition, high_watermark) == 320, "replica line");
static_assert(offsetof(bus_partition, deaths_repaired) == 384, "counter line");
static_assert(offsetof(bus_partition, data) == 448, "sleepers");
static_assert(offsetof(bus_partition, marks) == 1024, "marks");
static_assert(offsetof(bus_partition, lost) == 1056, "lost");
static_assert(offsetof(bus_partition, ring) == BUS_PAGE, "ring");
static_assert(offsetof(bus_partition, readers) == 3 * BUS_PAGE, "readers");

/* ---------------------------------------------------------------------------- segments
 * The same bytes in the hot file and in the durable one. Truth: the frames. Cache: the index.
 */
typedef struct {
    uint32_t position;        /* of a frame; 0: no entry. Release-stored last */
    uint32_t relative_offset; /* of that frame, from the segment's base offset */
    int64_t max_timestamp;    /* ns, largest of all frames before that one */
} bus_index_entry;
static_assert(sizeof(bus_index_entry) == 16, "index entry");

typedef struct { /* a sector of its own: a torn write spoils one of the two, never the header */
    uint64_t position;        /* all bytes below it were on disk when this was written */
    uint64_t offset;          /* and all records below this one */
    uint32_t crc;             /* CRC32C of the two, and of the segment's seed */
    char room[512 - 20];
} bus_synced;
static_assert(sizeof(bus_synced) == 512, "synced mark");

typedef struct {
    uint64_t magic;
    uint32_t version;
    uint32_t header_crc;      /* CRC32C of bytes 16..87 */
    uint64_t bus_id;
    uint64_t topic_id;
    uint32_t partition;
    uint32_t data_start;      /* where the first frame stands */
    uint64_t number;          /* of the segment in its partition, from 1; never repeats */
    uint64_t base_offset;
    uint64_t previous_end;    /* end offset of the segment before: a base above it is a known gap */
    uint64_t bytes;           /* of the file */
    int64_t created_ns;
    uint64_t seed;            /* mixed into every frame's CRC: stale bytes never validate */
    uint64_t reserved[5];
    /* ---- 128: written once, when the segment is sealed; cache (a scan finds the same) */
    uint64_t end_offset;      /* 0: not sealed */
    uint64_t end_position;    /* of the end frame */
    int64_t max_timestamp;
    uint64_t reserved2[5];
    char room[BUS_PAGE - 192 - 2 * 512];
    bus_synced synced[2];     /* durable files: how far it was on disk; the larger one counts */
    bus_index_entry index[BUS_INDEX_ENTRIES];
} bus_segment;
static_assert(offsetof(bus_segment, end_offset) == 128, "seal");
static_assert(offsetof(bus_segment, synced) == 3072, "synced marks");
static_assert(offsetof(bus_segment, index) == BUS_PAGE, "index");
#define BUS_DATA_START ((uint32_t)sizeof(bus_segment))
static_assert(sizeof(bus_segment) == 12288, "frames start on a page");

/* ------------------------------------------------------------------------------- frames
 *  0        4        8                 16                24       28   30   32       36       40
 *  +--------+--------+-----------------+-----------------+--------+----+----+--------+--------+
 *  | size   | crc32c | offset          | timestamp (ns)  | value  |attr|hdrs| key    | seq    |
 *  +--------+--------+-----------------+-----------------+--------+----+----+--------+--------+
 *  40                                  48
 *  +-----------------------+-----------+---- key | headers | 0..63 zero bytes | value | 0..7 zeros
 *  | producer id (48 bit)  | epoch (16)|
 *  +-----------------------+-----------+
 * A frame is valid if and only if its size is a multiple of 8, at least 48 and ends inside the
 * segment; its lengths fit its size; and crc32c(key, headers, value, bytes 0..3, bytes 8..47, seed)
 * equals the stored one. The body comes first in the checksum so that it can be computed before
 * the lock is taken. Padding is zero and not covered. In a memory topic, which has no second copy
 * to protect, large values are not covered either (BUS_ATTR_BARE_VALUE): their checksum would cost
 * as much as their copy.
 */
typedef struct {
    uint32_t size;          /* of the frame with header and padding */
    uint32_t crc;
    uint64_t offset;
    int64_t timestamp;      /* ns since the epoch, CLOCK_REALTIME or the sender's */
    uint32_t value_length;
    uint16_t attributes;
    uint16_t headers_length;
    uint32_t key_length;
    uint32_t sequence;      /* of the producer; reserved for idempotence */
    uint64_t producer;      /* id << 16 | epoch; end frame: number of the next segment; gap: end */
} bus_frame;
static_assert(sizeof(bus_frame) == 48, "frame header");

enum { /* bus_frame.attributes */
    BUS_TYPE_MASK = 0x0003, /* type */
    BUS_TYPE_RECORD = 0,
    BUS_TYPE_PAD = 1,       /* carries no record: skip it, unless `producer` is above `offset`. Then
                             * it is a gap: the records from `offset` to before `producer` were lost
                             * in the hot log before they were durable */
    BUS_TYPE_END = 2,       /* nothing follows in this segment */
    BUS_TYPE_CONTROL = 3,   /* reserved: transaction markers */
    BUS_CODEC_MASK = 0x001c, /* compression codec, reserved */
    BUS_ATTR_APPEND_TIME = 0x0020,
    BUS_ATTR_TRANSACTIONAL = 0x0040, /* reserved */
    BUS_ATTR_NULL_KEY = 0x0080,
    BUS_ATTR_NULL_VALUE = 0x0100,
    BUS_ATTR_ALIGNED = 0x0200, /* the value starts on a BUS_VALUE_ALIGN boundary */
    BUS_ATTR_BARE_VALUE = 0x0400, /* the checksum leaves the value out: memory topics only */
};

/* ------------------------------------------------------------------- group members, group-ID.ctl
 * Volatile, in the hot directory; every word is changed under the mutex, except `generation`,
 * which is also read without it.
 */
typedef struct {
    uint32_t client;        /* client slot + 1; 0: free */
    uint32_t topics_count;
    uint64_t client_generation;
    uint64_t joined;        /* group generation when it joined; with the slot it is the member id */
    uint32_t strategy;      /* 1 range, 2 roundrobin, 3 sticky */
    uint32_t pid;           /* for people */
    uint64_t seen;          /* group generation this member has last acted on */
    char client_id[64];     /* for people */
    char instance_id[16];   /* reserved: static membership */
    uint32_t topics[BUS_MEMBER_TOPICS]; /* topic ids, ascending */
    char room[1024 - 40 - 64 - 16 - 4 * BUS_MEMBER_TOPICS];
} bus_member;
static_assert(sizeof(bus_member) == 1024, "member slot");

typedef struct {
    uint32_t topic;         /* id; 0: free */
    uint32_t partition;
    uint32_t owner;         /* member slot + 1; 0: nobody */
    uint32_t target;        /* member slot + 1 that the plan gives it to; 0: nobody */
} bus_owner;
static_assert(sizeof(bus_owner) == 16, "owner slot");

typedef struct {
    uint64_t magic;
    uint32_t version;
    uint32_t bytes;
    uint64_t bus_id;
    uint64_t group_id;
    uint64_t generation;    /* raised by every join, leave, death and change of subscription */
    uint32_t owners_count;
    uint32_t flags;         /* 1: the group is deleted */
    uint64_t planned;       /* generation that the targets belong to; stored last */
    uint64_t reserved;
    bus_mutex lock;         /* guards this table and the group's offsets file */
    char room[BUS_PAGE - 128];
    bus_member members[BUS_GROUP_MEMBERS];
    bus_owner owners[BUS_GROUP_PARTITIONS];
} bus_members;
static_assert(offsetof(bus_members, lock) == 64, "lock line");
static_assert(offsetof(bus_members, members) == BUS_PAGE, "members");

/* ------------------------------------------------------------- group offsets, groups/NAME.offsets
 * Truth, in the data directory. After the header page, pages come in pairs: copy 0 of sixteen
 * entries, then copy 1 of the same sixteen. A commit overwrites the older valid copy; the newest
 * valid one counts, so neither a kill nor a torn page can lose both.
 */
typedef struct {
    uint32_t crc;           /* CRC32C of bytes 4..255 */
    uint32_t topic;         /* id; 0: free */
    uint32_t partition;
    uint32_t metadata_length;
    uint64_t sequence;      /* the larger one is the newer */
    int64_t offset;         /* next to be read; -1: none */
    uint64_t generation;    /* of the group at the commit */
    int64_t timestamp;      /* ns */
    uint64_t reserved[2];
    char metadata[192];
} bus_offset_entry;
static_assert(sizeof(bus_offset_entry) == 256, "offset entry");

typedef struct {
    uint64_t magic;
    uint32_t version;
    uint32_t header_crc;    /* CRC32C of bytes 16..BUS_PAGE-1 */
    uint64_t bus_id;
    uint64_t group_id;
    uint32_t name_length;
    uint32_t reserved;
    char name[256];
    char room[BUS_PAGE - 296];
} bus_offsets;
static_assert(sizeof(bus_offsets) == BUS_PAGE, "offsets header");
enum { BUS_OFFSETS_PER_PAGE = BUS_PAGE / 256 };

#endif
