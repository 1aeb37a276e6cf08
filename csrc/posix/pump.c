/* One output stream of a run. */
#include "pump.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fd.h"

#define CHUNK (64 * 1024)

/* A sink that we share with others stays blocking. POLLOUT promises room for PIPE_BUF bytes in a
 * pipe (poll(2), pipe(7)), so never more at once. */
#define SHARED_WRITE PIPE_BUF

void ox_pump_open_sink(struct ox_pump *pump)
{
    struct stat what;
    char path[32];
    int fd;

    if (pump->exclusive || fstat(pump->sink, &what) < 0)
        return;
    pump->socket = S_ISSOCK(what.st_mode);
    if (!S_ISCHR(what.st_mode))
        return;
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", pump->sink);
    fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return; /* somebody else's terminal (su, sudo): it stays the shared, blocking one */
    pump->sink = fd;
    pump->own_sink = 1;
    pump->exclusive = 1;
}

static ssize_t write_sink(const struct ox_pump *pump, const void *bytes, size_t size)
{
    if (pump->socket)
        return send(pump->sink, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    return write(pump->sink, bytes, size);
}

static int reserve(struct ox_pump *pump, size_t more)
{
    size_t wanted = pump->size + more, capacity = pump->capacity == 0 ? 4096 : pump->capacity;
    char *bytes;

    if (wanted <= pump->capacity)
        return 0;
    while (capacity < wanted)
        capacity *= 2;
    bytes = realloc(pump->bytes, capacity);
    if (bytes == NULL)
        return -ENOMEM;
    pump->bytes = bytes;
    pump->capacity = capacity;
    return 0;
}

static int keep(struct ox_pump *pump, const char *bytes, size_t size)
{
    int r;

    if (pump->mode == OX_STREAM_COPY && pump->written == pump->size)
        pump->size = pump->written = 0;
    r = reserve(pump, pump->escape ? size * OX_ESCAPE_GROWTH + OX_ESCAPE_SPARE : size);
    if (r < 0)
        return r;
    if (pump->escape) {
        pump->size += ox_escape(&pump->partial, pump->bytes + pump->size, bytes, size);
    } else {
        memcpy(pump->bytes + pump->size, bytes, size);
        pump->size += size;
    }
    return 0;
}

int ox_pump_read(struct ox_pump *pump, struct ox_budget *budget, size_t most)
{
    char chunk[CHUNK];
    size_t kept;
    ssize_t n;

    if (pump->source < 0)
        return 0;
    do
        n = read(pump->source, chunk, most < sizeof(chunk) ? most : sizeof(chunk));
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EAGAIN ? 1 : -errno;
    if (n == 0) {
        ox_close(&pump->source);
        return 0;
    }
    pump->total += (uint64_t)n;
    kept = (size_t)n;
    if (budget->left >= 0 && (int64_t)kept > budget->left)
        kept = (size_t)budget->left;
    if (pump->broken)
        kept = 0;
    if (kept < (size_t)n)
        budget->truncated = 1;
    if (kept == 0)
        return 1;
    if (budget->left >= 0)
        budget->left -= (int64_t)kept;
    return keep(pump, chunk, kept) < 0 ? -ENOMEM : 1;
}

int ox_pump_drain(struct ox_pump *pump, struct ox_budget *budget)
{
    for (;;) {
        uint64_t before = pump->total;
        int r = ox_pump_read(pump, budget, CHUNK);

        if (r < 0)
            return r;
        if (r == 0 || pump->total == before)
            break;
    }
    /* A character that was begun and will not be ended. */
    if (pump->escape && reserve(pump, OX_ESCAPE_SPARE) == 0)
        pump->size += ox_escape_end(&pump->partial, pump->bytes + pump->size);
    return 0;
}

void ox_pump_write(struct ox_pump *pump, struct ox_budget *budget)
{
    size_t left = pump->size - pump->written;
    ssize_t n;

    if (!pump->exclusive && left > SHARED_WRITE)
        left = SHARED_WRITE;
    n = write_sink(pump, pump->bytes + pump->written, left);
    if (n >= 0) {
        pump->written += (size_t)n;
    } else if (errno != EINTR && errno != EAGAIN) {
        /* Nobody reads, or the disk is full: the run goes on, what cannot be delivered counts as
         * truncated. */
        pump->broken = 1;
        budget->truncated = 1;
        if (errno != EPIPE)
            budget->undelivered = 1;
    }
}

int ox_pump_pending(const struct ox_pump *pump)
{
    return pump->mode == OX_STREAM_COPY && !pump->broken && pump->written < pump->size;
}

void ox_pump_free(struct ox_pump *pump)
{
    if (pump->own_sink)
        ox_close(&pump->sink);
    free(pump->bytes);
    pump->bytes = NULL;
}
