/* Whether what was answered was done. A filter around us can answer 0 to a call that never took place
 * (SECCOMP_RET_ERRNO with errno 0), and what rests on the call would be held by nobody. Each check
 * asks by another call than the one in question. -EBADE: it was not done. */
#ifndef OX_DONE_H
#define OX_DONE_H

#include "../core.h"

/* All three uids and gids are id. */
int ox_done_ids(uint32_t id);

/* No capability but these is effective or permitted. */
int ox_done_capabilities(uint32_t kept);

/* Root and working directory are what is open as directory. */
int ox_done_chroot(int directory);

/* The number of a namespace of ours, such as "mnt"; proc is /proc. Negative: cannot be read. */
int64_t ox_done_namespace(int proc, const char *kind);

/* Two open namespaces are two. */
int ox_done_apart(int one, int other);

/* What is mounted at path is read-only. */
int ox_done_read_only(const char *path);

/* We are behind a wall: a directory cannot be made here, where the caller's rights would do. */
int ox_done_wall(void);

/* We are behind one that does not let this open. */
int ox_done_wall_before(const char *directory);

/* kill() comes to the kernel. */
int ox_done_kill(void);

/* We are behind one that keeps a signal from pid, which the caller's rights would reach. */
int ox_done_signals(int32_t pid);

#endif
