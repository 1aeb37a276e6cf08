/* The messages between host, launcher and warden: one SOCK_SEQPACKET record each, descriptors by
 * SCM_RIGHTS. Both ends are built from the same tree; OX_WIRE_VERSION is compared in the first
 * exchange, so that a launcher of another build is refused and not misread. */
#ifndef OX_WIRE_H
#define OX_WIRE_H

#include "core.h"

#define OX_WIRE_VERSION 4

/* Arguments, environment and paths of one launch. A datagram must fit the default socket buffer
 * (208 KiB) with the kernel's own overhead. */
#define OX_STRINGS_MAX (128u * 1024u)
/* argc + envc of one launch */
#define OX_POINTERS_MAX 8192u
#define OX_MOUNTS_MAX 200u
#define OX_ENTRY_MAX 128u
#define OX_PATH_MAX 1024u
#define OX_DIGEST_SIZE 64u
/* kernel: SCM_MAX_FD is 253 */
#define OX_FDS_MAX 240u
#define OX_RLIMITS_MAX 8u
/* names of one collect request */
#define OX_COLLECT_MAX 64u
/* Instructions of a cell's own filter: with what the warden puts before them, BPF_MAXINSNS. */
#define OX_FILTER_MAX 4064u

enum ox_message {
    OX_MESSAGE_HELLO = 1,
    OX_MESSAGE_CREATE,
    OX_MESSAGE_DESTROY,
    OX_MESSAGE_LAUNCH,
    OX_MESSAGE_KILL,
    OX_MESSAGE_STARTED,
    OX_MESSAGE_ENDED,
    OX_MESSAGE_PUT,
    OX_MESSAGE_COLLECT,
    OX_MESSAGE_COLLECTED,
};

struct ox_wire_hello {
    uint32_t kind;
    uint32_t version;
    struct ox_config config;
};

struct ox_wire_hello_reply {
    uint32_t kind;
    uint32_t version;
    int32_t memory_version;
    uint32_t level;
    uint32_t holds;
    uint32_t weaker;
    char build[64];
    struct ox_problem problem; /* why it cannot make cells at all */
    struct ox_problem lacking; /* why its cells do not hold everything */
    struct ox_problem lacking_rate;
};

/* Followed by the instructions of the filter, then by strings: entry, then each mount's destination,
 * each ended by NUL. Descriptors: program, mounts. */
struct ox_wire_create {
    uint32_t kind;
    uint32_t sequence;
    uint32_t features;
    uint32_t mounts_count;
    int64_t memory_bytes;
    int64_t processes;
    int64_t disk_bytes;
    int64_t cpu_quota_us;
    char digest[OX_DIGEST_SIZE + 1];
    char pad[7];
    uint8_t mount_flags[OX_MOUNTS_MAX];
    uint32_t filter_count;
    uint32_t notes; /* enum ox_notes */
};

/* Bits of ox_wire_create_reply.counters. */
enum ox_counter {
    OX_COUNTER_CPU = 1,
    OX_COUNTER_OOM = 2,
    OX_COUNTER_USAGE = 4,
    OX_COUNTER_PEAK = 8,
    OX_COUNTER_GONE = 16, /* no counter: see struct ox_cell */
    OX_COUNTERS = 31
};

/* In the order in which cells become ready. Descriptors on success: warden, pidfd, writable, one for
 * each bit of counters, lowest first, and with has_listener the listener. */
struct ox_wire_create_reply {
    uint32_t kind;
    uint32_t sequence;
    struct ox_error error;
    uint32_t id;
    uint32_t counters;
    uint32_t has_listener;
    uint32_t reserved;
};

/* Not answered. */
struct ox_wire_destroy {
    uint32_t kind;
    uint32_t id;
};

struct ox_wire_rlimit {
    int32_t resource;
    uint32_t reserved;
    uint64_t soft;
    uint64_t hard;
};

/* Followed by strings: path, cwd, arguments, environment. Descriptors: 0, 1, 2 and, with
 * has_broker, 3. */
struct ox_wire_launch {
    uint32_t kind;
    uint32_t argc;
    uint32_t envc;
    uint32_t rlimits_count;
    uint32_t has_broker;
    uint32_t confirm;
    struct ox_wire_rlimit rlimits[OX_RLIMITS_MAX];
};

/* OX_MESSAGE_STARTED and OX_MESSAGE_ENDED. */
struct ox_wire_report {
    uint32_t kind;
    int32_t status;
    struct ox_error error;
    int32_t strays;
    int32_t processor; /* on which the warden took the request; -1: not known */
    uint32_t file;     /* stage files: which one of the archive, from 0 */
    uint32_t peak_kib; /* most that one process had in memory, where no cgroup counts it; else 0 */
};

/* Descriptor: an archive of files for the workspace (struct ox_file_head). Not answered: the launch that follows fails if
 * this did. */
struct ox_wire_put {
    uint32_t kind;
    uint32_t reserved;
};

/* Followed by names below the workspace, each ended by NUL. */
struct ox_wire_collect {
    uint32_t kind;
    uint32_t count;
};

/* The answer: a descriptor for each row without an error, in their order. */
struct ox_wire_collected {
    uint32_t kind;
    uint32_t count;
    struct ox_wire_collected_row {
        int32_t errnum;
        uint32_t mode; /* st_mode; 0: there is no such file */
    } rows[OX_COLLECT_MAX];
};

#endif
