/* The processes of a cell without namespaces: a keeper, its warden, and what the warden runs. */
#ifndef OX_PLAIN_CHILD_H
#define OX_PLAIN_CHILD_H

#include "../core.h"
#include "cell.h"

struct ox_plain_spec {
    const struct ox_cell_request *request;
    int is_root; /* level chroot: the directory becomes the root, and the ids are the cell's own */
    uint32_t keeper; /* uids; with is_root only */
    uint32_t warden;
    uint32_t plugin;
    int64_t memory_bytes; /* of each process, where nothing bounds the tree; -1: no bound */
    int directory;
    const char *prefix; /* its path, without is_root */
    int socket;
    const struct ox_cgroup *cgroup;
};

/* In the child of the launcher. The cell is ready when its warden has sent its own pidfd. */
void ox_plain_child_main(const struct ox_plain_spec *spec, struct ox_works *works)
    __attribute__((noreturn));

#endif
