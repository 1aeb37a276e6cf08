/* The launcher: makes and ends cells for one host process, and ends with it. */
#ifndef OX_LAUNCHER_H
#define OX_LAUNCHER_H

#include "../core.h"

/* Descriptors that the host passes to a new launcher. */
#define OX_LAUNCHER_SOCKET 3
#define OX_LAUNCHER_HOST 4 /* pidfd of the host */

/* Serve until the host goes; returns the exit status. */
int ox_launcher_main(int socket, int host);

#endif
