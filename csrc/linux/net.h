/* Network namespaces of cells: empty ones serve again.
 *
 * A network namespace costs as much as a third of a cell, half of it in the kernel's own workers.
 * Those here belong to the launcher's user namespace, so that no process of a cell ever has a
 * capability over one; their only interface is a loopback that is down. One goes on to another cell
 * if and only if
 *   - no process of its cell is left,
 *   - none of them ever made a socket of another family than AF_UNIX: the Internet families
 *     leave more than sockets behind (counters, flow labels), which cannot be listed once
 *     and for all. The filter holds such a call until the launcher has taken note of it;
 *   - the kernel counts no socket in it (the first number of /proc/net/sockstat, which sockets in
 *     flight belong to).
 * Else it is closed, and the kernel takes it apart. */
#ifndef OX_NET_H
#define OX_NET_H

#include "../core.h"

#define OX_NETS_SPARE 16

/* A program may make so many sockets of other families at once, and one more each millisecond: the
 * launcher's time, which it pays for with none of its own limits, is at most a few hundredths. */
#define OX_NET_NOTES_BURST 64
#define OX_NET_NOTE_NS INT64_C(1000000)

struct ox_net {
    int space;
    int sockstat; /* -1: cannot be looked into, and so not kept */
};

#define OX_NET_NONE \
    { \
        .space = -1, .sockstat = -1 \
    }

struct ox_nets {
    int home;   /* the launcher's own */
    int astray; /* it could not return: it must end */
    uint32_t spares_count;
    struct ox_net spares[OX_NETS_SPARE];
};

int ox_nets_open(struct ox_nets *ret_nets);
void ox_nets_close(struct ox_nets *nets);

/* Enter an empty one, kept or new. On failure the caller is where it was, or on its way home. */
int ox_net_enter(struct ox_nets *nets, struct ox_net *ret_net);

/* Return to the launcher's own. */
int ox_net_leave(struct ox_nets *nets);

/* No process of the cell is left. noted: one of them has made a socket that leaves traces, or it is
 * not known. Keep it if it is as new, else close it. */
void ox_net_give_back(struct ox_nets *nets, struct ox_net *net, int noted);

/* A process of a cell waits with its socket: let it go on. -EIO: nobody will come any more. */
int ox_net_take_note(int listener);

#endif
