/* The directory on disk below which a launcher makes the cells that have no mount namespace. */
#ifndef OX_PLAIN_BASE_H
#define OX_PLAIN_BASE_H

#include "../core.h"

#define OX_PLAIN_PREFIX "0xgen-sandbox-"

struct ox_plain_base {
    int parent;
    int directory; /* ours alone, mode 0700, locked while we live */
    char path[512];
    char name[64];
};

#define OX_PLAIN_BASE_NONE \
    { \
        .parent = -1, .directory = -1 \
    }

/* Make it below the directory `below`, which must belong to us and be writable by nobody else, and
 * remove there what dead launchers left; what takes longer than sweep_ms goes on beside us. -EACCES:
 * programs cannot be started from there (noexec); -EPERM: it is not ours alone. */
int ox_plain_base_open(const char *below, int sweep_ms, struct ox_plain_base *ret);

/* Remove it; a process that nobody waits for does so with what is left in it. */
void ox_plain_base_close(struct ox_plain_base *base);

/* A child of the launcher that does not exec: close, for the lock belongs to the open file. */
void ox_plain_base_forget(struct ox_plain_base *base);

#endif
