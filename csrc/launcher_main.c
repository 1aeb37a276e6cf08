/* The launcher as an executable of its own: small, so that what forks is small, and with a path
 * that a security profile can name. It is started by the extension with its socket and a pidfd
 * of the host in place. */
#include "core.h"

#include <stdio.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "linux/launcher.h"

int main(void)
{
    int type = 0;
    socklen_t size = sizeof(type);

    if (getsockopt(OX_LAUNCHER_SOCKET, SOL_SOCKET, SO_TYPE, &type, &size) < 0 ||
        type != SOCK_SEQPACKET) {
        (void)fputs("oxgen launcher: started by oxgen itself, not by hand\n", stderr);
        return 2;
    }
    return ox_launcher_main(OX_LAUNCHER_SOCKET, OX_LAUNCHER_HOST);
}
