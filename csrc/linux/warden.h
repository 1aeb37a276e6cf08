/* The warden: the first process of a cell, pid 1 of it where there is a pid namespace. It launches, kills
 * and reaps; it holds nothing else. */
#ifndef OX_WARDEN_H
#define OX_WARDEN_H

#include "../core.h"

struct ox_watch;

/* A filter for each program that it launches, besides its own; count 0: none. */
void ox_warden_take_filter(const struct ox_instruction *code, uint32_t count);

/* What surrounds a warden. Without a word it is that of level namespaces. */
struct ox_ground {
    const char *root; /* of programs, entered by chroot; NULL: the warden's own */
    uint32_t uid;     /* of programs, and their gid; 0 with own_ids */
    uint32_t rest;    /* the warden's effective uid while it kills nobody */
    int parent;       /* the process that must live */
    int own_ids;      /* programs keep the ids of the warden */
    uint32_t capabilities;
    int parent_death; /* what the end of the parent sends: SIGKILL, or a signal that is answered */
    int wall;         /* one more for each program (landlock.h); -1: none */
    int children;     /* /proc/self/task/<tid>/children, where nothing better ends a tree; -1 */
    int stat;         /* /proc/self/stat, for who counts CPU time by it; -1 */
    int (*kill_all)(const struct ox_ground *ground);
    uint32_t also;       /* another uid whose processes end with it; 0: none */
    const char *program; /* "/bin/<entry>", with a prefix */
    const char *prefix;  /* where what a program knows as / lies, without a root of its own; NULL */
};

/* Before ox_warden_confine(); ground must live as long as the warden. */
void ox_warden_stand_on(struct ox_ground *ground);

/* Kill every process of the cell but ourselves and reap them, for 2 seconds at most. 1: nobody is
 * left. */
int ox_warden_end_all(void);

/* For a parent of the warden that is confined as it is: when the warden or our own parent has ended,
 * end all the others, then ourselves. */
void ox_warden_keep(int signals, int warden) __attribute__((noreturn));

/* Give up every right that launching does not need, load the filter, keep only the socket. */
int ox_warden_confine(int socket, int oom_score, int *ret_socket, int *ret_oom_score,
                      int *ret_signals, struct ox_watch *watch, struct ox_error *ret_error);

/* Answer launch requests until the socket closes. */
void ox_warden_serve(int socket, int oom_score, int signals) __attribute__((noreturn));

#endif
