/* Cells as the launcher holds them: namespaces, ids, cgroup and a warden each. */
#ifndef OX_LINUX_CELL_H
#define OX_LINUX_CELL_H

#include "../core.h"
#include "cgroup.h"
#include "ids.h"
#include "jail.h"
#include "level.h"
#include "net.h"
#include "plain_base.h"
#include "space.h"
#include "store.h"
#include "user.h"

/* How long a cell may take to build itself. */
#define OX_CELL_MAKE_MS 10000

/* What every cell draws on; made once when the launcher starts. */
struct ox_works {
    const struct ox_level_calls *level;
    uint32_t holds;  /* enum ox_property */
    uint32_t weaker; /* enum ox_weakness */
    struct ox_problem lacking;
    struct ox_problem lacking_rate;
    struct ox_user user;
    struct ox_ids ids;
    struct ox_store store;
    struct ox_cgroup_base cgroups;
    struct ox_nets nets;
    struct ox_spaces spaces;
    int outer; /* where cells without a /proc begin, see ox_jail_space() */
    int proc;  /* the launcher's /proc */
    uint32_t next_id;
    struct ox_plain_base base; /* of cells on disk */
    int counts_strangers;      /* RLIMIT_NPROC of a plugin counts every process of our user */
};

enum ox_cell_state {
    OX_CELL_FREE = 0,
    OX_CELL_BUILDING, /* its first process is on its way to becoming the warden */
    OX_CELL_READY,    /* the host's */
    OX_CELL_DYING,    /* killed; some of its processes may still be ending */
};

#define OX_WORKS_NONE \
    { \
        .ids.lock = -1, .store.directory = -1, .store.space = -1, .nets.home = -1, \
        .spaces.home = -1, .spaces.root = -1, .outer = -1, .proc = -1, .base = OX_PLAIN_BASE_NONE \
    }

/* Cgroups, for levels that have them: afterwards works->holds says whether there are any, and
 * works->lacking why not. Fails only where something is used up, which is no fault of the machine. */
int ox_works_open_cgroups(struct ox_works *works, struct ox_problem *ret_problem);

struct ox_kept_cell {
    uint32_t id;
    int state;
    uint32_t sequence; /* the host's number for its request */
    int64_t deadline;  /* of the making */
    int pidfd;
    int socket;   /* the host's end of the pair, until the host has it */
    int writable; /* the same */
    struct ox_id_pair ids;
    struct ox_cgroup cgroup;
    struct ox_net net;
    int listener;    /* says when a socket is made that its network namespace would remember */
    int noted;       /* one was made, or nobody would have noticed */
    int64_t note_at; /* when the next such call is looked at; 0: at once */
    int notes;       /* the listener is for the host */
    /* Without a pid namespace pidfd is that of a keeper, which outlives the warden. */
    int is_kept;
    int warden; /* its pidfd, until the host has it; -1: pidfd is the warden's */
    struct ox_id_pair keeper;
    int directory; /* its own, on disk; -1: none */
};

/* A create request that has been checked. */
struct ox_cell_request {
    uint32_t sequence;
    const char *entry;
    const char *digest; /* NULL: mount the program's own file */
    int program;
    uint32_t features;
    int64_t memory_bytes;
    int64_t processes;
    int64_t disk_bytes;
    int64_t cpu_quota_us;
    uint32_t mounts_count;
    const char *destinations[200];
    int mounts[200];
    uint8_t mount_flags[200]; /* enum ox_mount_flag */
    const struct ox_instruction *filter;
    uint32_t filter_count;
    int notes;
};

/* A slot in which nothing is made yet. */
void ox_kept_cell_begin(const struct ox_cell_request *request, struct ox_kept_cell *cell);

/* Take a cgroup with what the request says; processes, or -1, are those of the whole cell. A bound
 * that cannot be held is left out, as works->holds says: whoever asks for a cell compares. */
int ox_kept_cell_take_cgroup(struct ox_works *works, const struct ox_cell_request *request,
                             int64_t processes, struct ox_kept_cell *cell,
                             struct ox_error *ret_error);

/* Its socket is readable. 1: the cell is ready; 0: not yet; a negative errno: it never will be, and
 * the caller ends it. */
int ox_kept_cell_hear(struct ox_kept_cell *cell, struct ox_error *ret_error);

/* Its listener is readable, or has come to its end: nobody is left whom the filter holds. After a
 * burst note_at puts the next one off, so that no program makes the launcher work for it. */
void ox_kept_cell_note(struct ox_kept_cell *cell, int readable);

/* The host has its descriptors: close ours, but what ends the cell. */
void ox_kept_cell_hand_over(struct ox_kept_cell *cell);

#endif
