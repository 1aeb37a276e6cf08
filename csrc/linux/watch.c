/* Watched cells: the cell's end, which hands its listener over, and the host's, which answers. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include "watch.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../posix/fd.h"
#include "missing.h"
#include "seccomp.h"

int ox_watch_load(struct ox_watch *watch)
{
    if (watch->notes == OX_NOTES_NONE)
        return ox_seccomp_load_noted(&watch->listener);
    if (getrandom(&watch->pass, sizeof(watch->pass), 0) != (ssize_t)sizeof(watch->pass))
        return errno != 0 ? -errno : -EIO;
    return ox_seccomp_load_watched(watch->notes, watch->pass, &watch->listener);
}

/* sendmsg has three arguments; the pass is in the sixth. */
static int send_past_the_filter(int socket, const struct ox_error *report,
                                const struct ox_watch *watch)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = { .bytes = { 0 } };
    struct iovec part = { .iov_base = (void *)report, .iov_len = sizeof(*report) };
    struct msghdr message = {
        .msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof(control.bytes),
    };
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);

    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &watch->listener, sizeof(int));
    return syscall(SYS_sendmsg, socket, &message, MSG_NOSIGNAL, 0, 0, watch->pass) < 0 ? -errno : 0;
}

int ox_watch_hand_over(int socket, const struct ox_watch *watch)
{
    struct ox_error ready = { OX_STAGE_NONE, 0 };

    if (watch->notes != OX_NOTES_NONE)
        return send_past_the_filter(socket, &ready, watch);
    return ox_send(socket, &ready, sizeof(ready), NULL, 0, &watch->listener, watch->listener >= 0);
}

/* --- the host's end --------------------------------------------------------------------------- */

int ox_notice_receive(int listener, int wait_ms, struct ox_notice *ret_notice)
{
    struct pollfd waiting = { .fd = listener, .events = POLLIN };
    struct seccomp_notif request;

    if (poll(&waiting, 1, wait_ms) < 0)
        return errno == EINTR ? 0 : -errno;
    if ((waiting.revents & POLLIN) == 0)
        return waiting.revents != 0 ? -EPIPE : 0;
    memset(&request, 0, sizeof(request));
    /* ENOENT: it was killed meanwhile. */
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &request) < 0)
        return errno == ENOENT || errno == EINTR ? 0 : -errno;
    *ret_notice = (struct ox_notice){
        .id = request.id,
        .pid = request.pid,
        .number = request.data.nr,
        .arch = request.data.arch,
    };
    for (int i = 0; i < 6; i++)
        ret_notice->args[i] = request.data.args[i];
    return 1;
}

int ox_notice_answer(int listener, uint64_t id, int errnum)
{
    struct seccomp_notif_resp answer;

    memset(&answer, 0, sizeof(answer));
    answer.id = id;
    if (errnum == 0)
        answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    else
        answer.error = -errnum;
    return ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer) < 0 ? -errno : 0;
}

int ox_notice_is_valid(int listener, uint64_t id)
{
    return ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0;
}
