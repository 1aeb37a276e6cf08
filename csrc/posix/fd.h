/* Descriptors, records with descriptors, and the clock. */
#ifndef OX_FD_H
#define OX_FD_H

#include "../core.h"

#include <sys/types.h>

void ox_close_all(int *fds, size_t count);

/* Open a file for writing and write a text to it. The text is one write: to a file of the kernel's it is
 * one order, and half of it would be another. flags are open(2)'s besides; what they make is 0444. */
int ox_write_text(int directory, const char *path, int flags, const char *text);

/* Nanoseconds of CLOCK_BOOTTIME: a deadline must not stand still while the machine sleeps. */
int64_t ox_now_ns(void);

/* Milliseconds until deadline for poll(): rounded up, never negative. */
int ox_until_ms(int64_t deadline_ns);

/* Send one record of two parts. fds may be NULL. */
int ox_send(int socket, const void *head, size_t head_size, const void *tail, size_t tail_size,
            const int *fds, size_t fds_count);

/* Receive one record: its size, 0 at end of file, or a negative errno; -EMSGSIZE when it or its
 * descriptors did not fit (descriptors that came are closed then). */
ssize_t ox_receive(int socket, void *ret_buffer, size_t capacity, int *ret_fds, size_t fds_capacity,
                   size_t *ret_fds_count);

/* poll() one descriptor for input until the deadline. 0, -ETIMEDOUT or another negative errno. */
int ox_wait_readable(int fd, int64_t deadline_ns);

#endif
