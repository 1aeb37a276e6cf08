/* A launcher without CAP_SYS_ADMIN does its work in a user namespace of its own, where it has every
 * capability (user_namespaces(7)). There its own id is 0. Where the administrator has given the user
 * further ids (subuid(5), newuidmap(1)), those are there under their own numbers. */
#ifndef OX_USER_H
#define OX_USER_H

#include "../core.h"

struct ox_user {
    int is_own;        /* 1: we are in a namespace of our own; 0: we are privileged where we were */
    uint32_t uid;      /* the caller's, outside */
    uint32_t sub_base; /* ids beside it, for uids and gids alike */
    uint32_t sub_count; /* 0: none */
    int keeps_groups;   /* cells cannot let go of the caller's supplementary groups */
};

/* 1 when the caller may do what a launcher does without a namespace of its own: it has CAP_SYS_ADMIN,
 * and the ids of the range exist where it is. In a container without privilege they do not. */
int ox_user_is_privileged(uint32_t base, uint32_t count);

/* 1 when the caller has a supplementary group beside the one that it has anyway. */
int ox_user_has_groups(void);

/* Enter the namespace, and a mount and a network namespace of our own. One thread only. */
int ox_user_enter(struct ox_user *ret_user, struct ox_problem *ret_problem);

/* 1 when the kernel counts the processes of one uid for each user namespace apart (Linux 5.14), so
 * that RLIMIT_NPROC holds a cell though others have its uid: tried, with a process that ends. */
int ox_user_counts_apart(void);

#endif
