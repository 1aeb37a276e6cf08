/* What a cgroup has counted, read through descriptors that were opened when it was made.
 *
 * The host holds such descriptors and no path: each read is one pread() at offset 0. Version 1
 * and 2 of cgroups say the same in different words, so the format is told by what is read. All
 * return 0 or a negative errno, -EBADMSG when the file says nothing that is understood. */
#ifndef OX_COUNTERS_H
#define OX_COUNTERS_H

#include <stdint.h>

/* CPU time of all its processes so far, from cpuacct.usage or cpu.stat; from /proc/<pid>/stat that of
 * one process and of those below it that have ended, in ticks. */
int ox_cgroup_read_cpu_ns(int fd, uint64_t *ret_ns);

/* Processes killed for lack of memory so far, from memory.oom_control (Linux 4.13) or
 * memory.events. */
int ox_cgroup_read_oom_kills(int fd, uint64_t *ret_kills);

/* Make the peak start again from what is in use now. -EOPNOTSUPP where the kernel cannot:
 * version 2 before Linux 6.12. There the reset holds for readers of this open file only, which
 * descriptors sent over a socket are. */
int ox_cgroup_reset_peak(int fd);

/* The most memory in use since the start or the last reset, from memory.max_usage_in_bytes or
 * memory.peak. */
int ox_cgroup_read_peak(int fd, uint64_t *ret_bytes);

/* What is charged now, from memory.usage_in_bytes or memory.current. */
int ox_cgroup_read_usage(int fd, uint64_t *ret_bytes);

#endif
