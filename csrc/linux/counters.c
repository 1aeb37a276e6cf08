/* What a cgroup has counted. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include "../posix/counters.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

/* cpu.stat and memory.events have some twenty short lines; what we look for is among the first. */
#define TEXT_SIZE 2048

static int read_text(int fd, char *ret_text)
{
    ssize_t size;

    do
        size = pread(fd, ret_text, TEXT_SIZE - 1, 0);
    while (size < 0 && errno == EINTR);
    if (size < 0)
        return -errno;
    ret_text[size] = '\0';
    return 0;
}

static int parse_number(const char *text, uint64_t *ret)
{
    uint64_t number = 0;

    if (*text < '0' || *text > '9')
        return -EBADMSG;
    for (; *text >= '0' && *text <= '9'; text++)
        if (__builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, (uint64_t)(*text - '0'), &number))
            return -EBADMSG;
    if (*text != '\n' && *text != '\0')
        return -EBADMSG;
    *ret = number;
    return 0;
}

/* The number behind key, which stands at the start of a line and ends with a space. */
static int parse_key(const char *text, const char *key, uint64_t *ret)
{
    size_t size = strlen(key);

    for (const char *line = text; line != NULL;) {
        if (strncmp(line, key, size) == 0)
            return parse_number(line + size, ret);
        line = strchr(line, '\n');
        if (line != NULL)
            line++;
    }
    return -EBADMSG;
}

/* /proc/<pid>/stat (proc_pid_stat(5)): what it has used and what those that it has reaped did. */
static int parse_stat(const char *text, uint64_t *ret_ns)
{
    const char *at = strrchr(text, ')'); /* the name before it may hold anything */
    unsigned long own[2], ended[2];
    long ticks = sysconf(_SC_CLK_TCK);

    if (at == NULL || ticks <= 0 ||
        sscanf(at, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %lu %lu", &own[0],
               &own[1], &ended[0], &ended[1]) != 4)
        return -EBADMSG;
    *ret_ns = (own[0] + own[1] + ended[0] + ended[1]) * (UINT64_C(1000000000) / (uint64_t)ticks);
    return 0;
}

int ox_cgroup_read_cpu_ns(int fd, uint64_t *ret_ns)
{
    char text[TEXT_SIZE];
    uint64_t number;
    int r = read_text(fd, text);

    if (r < 0)
        return r;
    if (parse_number(text, ret_ns) == 0)
        return 0;
    r = parse_key(text, "usage_usec ", &number);
    if (r < 0)
        return parse_stat(text, ret_ns);
    if (number > UINT64_MAX / 1000)
        return -EBADMSG;
    *ret_ns = number * 1000;
    return 0;
}

int ox_cgroup_read_oom_kills(int fd, uint64_t *ret_kills)
{
    char text[TEXT_SIZE];
    int r = read_text(fd, text);

    return r < 0 ? r : parse_key(text, "oom_kill ", ret_kills);
}

int ox_cgroup_reset_peak(int fd)
{
    ssize_t size;

    do
        size = pwrite(fd, "0", 1, 0);
    while (size < 0 && errno == EINTR);
    if (size >= 0)
        return 0;
    /* EBADF: memory.peak was not writable and is open for reading only. EINVAL: no such
     * operation. */
    return errno == EBADF || errno == EINVAL ? -EOPNOTSUPP : -errno;
}

int ox_cgroup_read_peak(int fd, uint64_t *ret_bytes)
{
    char text[TEXT_SIZE];
    int r = read_text(fd, text);

    return r < 0 ? r : parse_number(text, ret_bytes);
}

int ox_cgroup_read_usage(int fd, uint64_t *ret_bytes)
{
    return ox_cgroup_read_peak(fd, ret_bytes); /* the same form: one number */
}
