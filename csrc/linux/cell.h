/* Cells as the launcher holds them: namespaces, ids, cgroup and a warden each. */
#ifndef OX_LINUX_CELL_H
#define OX_LINUX_CELL_H

#include "../core.h"
#include "cgroup.h"
#include "ids.h"
#include "jail.h"
#include "store.h"

/* What every cell draws on; made once when the launcher starts. */
struct ox_works {
    struct ox_ids ids;
    struct ox_store store;
    struct ox_cgroup_base cgroups;
    uint32_t next_id;
};

struct ox_kept_cell {
    uint32_t id; /* 0: free */
    int dying;   /* its processes were killed and could not be seen to end in time */
    int pidfd;
    struct ox_id_pair ids;
    struct ox_cgroup cgroup;
};

/* A create request that has been checked. */
struct ox_cell_request {
    const char *entry;
    const char *digest; /* NULL: mount the program's own file */
    int program;
    uint32_t features;
    int64_t memory_bytes;
    int64_t processes;
    int64_t disk_bytes;
    uint32_t mounts_count;
    const char *destinations[200];
    int mounts[200];
};

struct ox_cell_parts {
    int warden; /* the host's end of the pair */
    int writable;
};

int ox_kept_cell_make(struct ox_works *works, const struct ox_cell_request *request,
                      struct ox_kept_cell *ret_cell, struct ox_cell_parts *ret_parts,
                      struct ox_error *ret_error);

/* Kill, wait until its processes are gone, give everything back. -ETIMEDOUT: they were not gone
 * by wait_ms; what can be given back has been, and the call may be repeated. */
int ox_kept_cell_end(struct ox_works *works, struct ox_kept_cell *cell, int wait_ms);

#endif
