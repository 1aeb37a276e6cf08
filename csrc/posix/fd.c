/* Descriptors, records with descriptors, and the clock. */
#include "fd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../wire.h"

int ox_open_to_read(const char *path, int *ret_fd)
{
    int fd;

    do
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return -errno;
    *ret_fd = fd;
    return 0;
}

static int64_t nanoseconds(const struct timespec *time)
{
    return (int64_t)time->tv_sec * 1000000000 + time->tv_nsec;
}

int ox_file_is(const char *path, const struct ox_file_state *state)
{
    struct stat now;

    return stat(path, &now) == 0 && (uint64_t)now.st_dev == state->device &&
           (uint64_t)now.st_ino == state->inode && (int64_t)now.st_size == state->size &&
           nanoseconds(&now.st_mtim) == state->mtime_ns &&
           nanoseconds(&now.st_ctim) == state->ctime_ns;
}

int ox_duplicate(int fd, int *ret_fd)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

    if (copy < 0)
        return -errno;
    *ret_fd = copy;
    return 0;
}

void ox_close(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

void ox_close_all(int *fds, size_t count)
{
    for (size_t i = 0; i < count; i++)
        ox_close(&fds[i]);
}

int ox_write_text(int directory, const char *path, int flags, const char *text)
{
    size_t size = strlen(text);
    ssize_t n;
    int r = 0;
    int fd = openat(directory, path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | flags, 0444);

    if (fd < 0)
        return -errno;
    do
        n = write(fd, text, size);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        r = -errno;
    else if ((size_t)n != size)
        r = -EIO;
    ox_close(&fd);
    return r;
}

int64_t ox_now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_BOOTTIME, &now);
    return nanoseconds(&now);
}

int ox_until_ms(int64_t deadline_ns)
{
    int64_t left = deadline_ns - ox_now_ns();

    if (left <= 0)
        return 0;
    left = (left + 999999) / 1000000;
    return left > 1000000 ? 1000000 : (int)left;
}

int ox_send(int socket, const void *head, size_t head_size, const void *tail, size_t tail_size,
            const int *fds, size_t fds_count)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * OX_FDS_MAX)];
    } control;
    struct iovec parts[2] = {
        { .iov_base = (void *)head, .iov_len = head_size },
        { .iov_base = (void *)tail, .iov_len = tail_size },
    };
    struct msghdr message = { .msg_iov = parts, .msg_iovlen = tail_size > 0 ? 2 : 1 };

    if (fds_count > OX_FDS_MAX)
        return -EMSGSIZE;
    if (fds_count > 0) {
        struct cmsghdr *header;

        memset(&control, 0, sizeof(control));
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * fds_count);
        header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * fds_count);
        memcpy(CMSG_DATA(header), fds, sizeof(int) * fds_count);
    }
    for (;;) {
        ssize_t sent = sendmsg(socket, &message, MSG_NOSIGNAL);

        if (sent >= 0)
            return (size_t)sent == head_size + tail_size ? 0 : -EMSGSIZE;
        if (errno != EINTR)
            return -errno;
    }
}

/* Copies out at most fds_capacity descriptors and closes the rest; returns how many were too
 * many. */
static size_t take_descriptors(struct msghdr *message, int *ret_fds, size_t fds_capacity,
                               size_t *ret_count)
{
    size_t count = 0, surplus = 0;

    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header != NULL;
         header = CMSG_NXTHDR(message, header)) {
        size_t here;

        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
            continue;
        here = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < here; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(fd));
            if (count < fds_capacity) {
                ret_fds[count++] = fd;
            } else {
                ox_close(&fd);
                surplus++;
            }
        }
    }
    *ret_count = count;
    return surplus;
}

ssize_t ox_receive(int socket, void *ret_buffer, size_t capacity, int *ret_fds, size_t fds_capacity,
                   size_t *ret_fds_count)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * OX_FDS_MAX)];
    } control;
    struct iovec part = { .iov_base = ret_buffer, .iov_len = capacity };
    struct msghdr message = {
        .msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof(control),
    };
    size_t count = 0, surplus;
    ssize_t size;

    *ret_fds_count = 0;
    do
        size = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    while (size < 0 && errno == EINTR);
    if (size < 0)
        return -errno;

    surplus = take_descriptors(&message, ret_fds, fds_capacity, &count);
    if (surplus > 0 || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
        ox_close_all(ret_fds, count);
        return -EMSGSIZE;
    }
    *ret_fds_count = count;
    return size;
}

int ox_wait_readable(int fd, int64_t deadline_ns)
{
    for (;;) {
        struct pollfd wanted = { .fd = fd, .events = POLLIN };
        int left = ox_until_ms(deadline_ns);
        int n = poll(&wanted, 1, left);

        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n == 0 && ox_now_ns() >= deadline_ns)
            return -ETIMEDOUT;
    }
}
