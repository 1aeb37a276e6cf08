/* The pipes of a program that its host talks to. */
#include "../core.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "fd.h"

static int open_pipe(int *ret_source, int *ret_sink)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    *ret_source = ends[0];
    *ret_sink = ends[1];
    return 0;
}

static int set_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

int ox_pipes_open(struct ox_pipes *ret_pipes)
{
    int r;

    *ret_pipes = (struct ox_pipes){ -1, { -1, -1, -1 }, { -1, -1, -1 } };
    ret_pipes->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r = ret_pipes->wake < 0 ? -errno : 0;
    if (r == 0)
        r = open_pipe(&ret_pipes->inner[0], &ret_pipes->outer[0]);
    for (int i = 1; i < 3 && r == 0; i++) {
        r = open_pipe(&ret_pipes->outer[i], &ret_pipes->inner[i]);
        if (r == 0)
            r = set_nonblocking(ret_pipes->inner[i]);
    }
    if (r < 0)
        ox_pipes_close(ret_pipes);
    return r;
}

void ox_pipes_close(struct ox_pipes *pipes)
{
    ox_close(&pipes->wake);
    ox_close_all(pipes->inner, 3);
    ox_close_all(pipes->outer, 3);
}

int ox_take(int *fd, const char *name, int flags)
{
    int taken = *fd;

    (void)name;
    (void)flags;
    *fd = -1;
    return taken;
}
