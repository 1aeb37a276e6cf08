/* Pairs of host uids, one pair a cell, held by locks that the kernel frees when the launcher
 * dies. */
#ifndef OX_IDS_H
#define OX_IDS_H

#include "../core.h"

#define OX_PAIRS_MAX 65536u

struct ox_ids {
    int lock; /* every uid is one byte of this file, at its number */
    uint32_t base;
    uint32_t pairs;
    uint32_t next;
    int is_shared;                  /* there are no pairs: every cell has the launcher's own id */
    uint8_t held[OX_PAIRS_MAX / 8]; /* ours: the kernel would grant us our own lock a second time */
};

/* The warden of a cell is root inside and this uid (and gid) outside; its plugin is 65534 and
 * the next one. */
struct ox_id_pair {
    uint32_t slot;
    uint32_t warden;
    uint32_t plugin;
    int is_shared; /* both are the launcher's own id, and 65534 inside */
};

int ox_ids_open(const struct ox_config *config, struct ox_ids *ret_ids,
                struct ox_problem *ret_problem);
/* The same in the user namespace of a launcher without privilege: pairs of a range that the user was
 * given, if it was given one and there is a place for the lock. */
void ox_ids_open_user(uint32_t uid, uint32_t base, uint32_t count, struct ox_ids *ret_ids);
/* -EAGAIN: every pair of the range is taken by this or another launcher. */
int ox_ids_take(struct ox_ids *ids, struct ox_id_pair *ret_pair);
void ox_ids_release(struct ox_ids *ids, const struct ox_id_pair *pair);
void ox_ids_close(struct ox_ids *ids);

#endif
