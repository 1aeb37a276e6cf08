/* The launch request: what the host asks of a warden. */
#ifndef OX_REQUEST_H
#define OX_REQUEST_H

#include "../core.h"

/* Send it with the program's ends of its three streams. is_counted: a cgroup counts what the tree uses,
 * so that limits of a process are a backstop only. -E2BIG: too many or too long strings. */
int ox_request_send(int socket, const struct ox_run_spec *spec, const int *streams, int is_counted);

/* Ask for the files of an archive to be put in before the launch that follows. */
int ox_request_put(int socket, int archive);

#endif
