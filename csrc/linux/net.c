/* Network namespaces of cells. */
#include "net.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "../posix/fd.h"
#include "done.h"
#include "missing.h"

/* What /proc/net/sockstat of an untouched namespace begins with. */
#define NO_SOCKET "sockets: used 0\n"

int ox_nets_open(struct ox_nets *ret_nets)
{
    memset(ret_nets, 0, sizeof(*ret_nets));
    ret_nets->home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    return ret_nets->home < 0 ? -errno : 0;
}

static void close_net(struct ox_net *net)
{
    ox_close(&net->space);
    ox_close(&net->sockstat);
}

void ox_nets_close(struct ox_nets *nets)
{
    while (nets->spares_count > 0)
        close_net(&nets->spares[--nets->spares_count]);
    ox_close(&nets->home);
}

int ox_net_enter(struct ox_nets *nets, struct ox_net *ret_net)
{
    struct ox_net net;
    int r;

    if (nets->spares_count > 0) {
        if (setns(nets->spares[nets->spares_count - 1].space, CLONE_NEWNET) < 0)
            return -errno;
        *ret_net = nets->spares[--nets->spares_count];
        return 0;
    }
    if (unshare(CLONE_NEWNET) < 0)
        return -errno;
    net.space = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    r = net.space < 0 ? 0 : ox_done_apart(nets->home, net.space);
    /* Then we are where we were. */
    if (r < 0) {
        ox_close(&net.space);
        return r;
    }
    /* Of the namespace that the opener is in, and of no other later. */
    net.sockstat = net.space < 0 ? -1 : open("/proc/self/net/sockstat", O_RDONLY | O_CLOEXEC);
    *ret_net = net;
    return 0;
}

int ox_net_leave(struct ox_nets *nets)
{
    nets->astray = setns(nets->home, CLONE_NEWNET) < 0;
    return nets->astray ? -errno : 0;
}

static int holds_no_socket(const struct ox_net *net)
{
    char text[sizeof(NO_SOCKET) - 1];

    return net->sockstat >= 0 &&
           pread(net->sockstat, text, sizeof(text), 0) == (ssize_t)sizeof(text) &&
           memcmp(text, NO_SOCKET, sizeof(text)) == 0;
}

void ox_net_give_back(struct ox_nets *nets, struct ox_net *net, int noted)
{
    if (!noted && nets->spares_count < OX_NETS_SPARE && holds_no_socket(net))
        nets->spares[nets->spares_count++] = *net;
    else
        close_net(net);
    *net = (struct ox_net)OX_NET_NONE;
}

int ox_net_take_note(int listener)
{
    struct seccomp_notif request;
    struct seccomp_notif_resp answer;

    memset(&request, 0, sizeof(request));
    /* ENOENT: it was killed meanwhile. */
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &request) < 0)
        return errno == ENOENT || errno == EINTR ? 0 : -EIO;
    memset(&answer, 0, sizeof(answer));
    answer.id = request.id;
    answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    (void)ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
    return 0;
}
