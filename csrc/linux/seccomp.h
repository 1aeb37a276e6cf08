/* The default filter on system calls: an allow-list, inherited by everything a cell runs. */
#ifndef OX_SECCOMP_H
#define OX_SECCOMP_H

#include <linux/filter.h>
#include <stddef.h>
#include <stdint.h>

/* Enough for every architecture; the kernel's own bound is BPF_MAXINSNS (4096). */
#define OX_SECCOMP_CAPACITY 1024

/* Both filters that a cell may get answer setpriority() of no such kind with an errno that nothing else
 * gives: so a cell knows that it has them. */
#define OX_SECCOMP_MARK 0x6f786700U
#define OX_SECCOMP_MARK_PLAIN 0x6f786701U
#define OX_SECCOMP_MARK_ERRNO EBADRQC

/* 0, or -EBADE: the kernel was not asked to load the filter with that mark, whatever was answered. */
int ox_seccomp_check(uint32_t mark);

/* Put the filter on the calling thread, which must have set no_new_privs or hold CAP_SYS_ADMIN in
 * its user namespace. Returns 0 or a negative errno: -EINVAL on a kernel without
 * CONFIG_SECCOMP_FILTER, -EACCES without no_new_privs, -EBADE where an outer filter answered that it
 * was loaded and it was not. Async-signal-safe, no malloc. */
int ox_seccomp_load(void);

/* The same filter, but a socket of any family but AF_UNIX waits until the holder of *ret_listener
 * (close-on-exec) lets it go on: see net.h. -1 where a filter that was there before has a listener
 * already, or the kernel knows of none; then nothing waits and nothing is known. */
int ox_seccomp_load_noted(int *ret_listener);

/* The same filter for a cell that is watched (enum ox_notes): the calls in question wait until the
 * holder of *ret_listener answers. With OX_NOTES_ALL sendmsg does not wait if its sixth argument, which
 * it does not use, is pass. -EBUSY: a filter that was there before has a listener already. */
int ox_seccomp_load_watched(int notes, uint64_t pass, int *ret_listener);

/* Write the program for arch (AUDIT_ARCH_X86_64 or AUDIT_ARCH_AARCH64). Returns the number of
 * instructions, or 0 when arch is neither or the program does not fit. */
size_t ox_seccomp_build(struct sock_filter *ret, size_t capacity, uint32_t arch);

#endif
