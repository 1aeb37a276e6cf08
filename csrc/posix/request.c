/* The launch request: limits of a process, strings, descriptors. */
#include "request.h"

#include <errno.h>
#include <sys/resource.h>

#include "../wire.h"
#include "fd.h"

#define SECOND INT64_C(1000000000)

static void add_rlimit(struct ox_wire_launch *head, int resource, uint64_t soft, uint64_t hard)
{
    head->rlimits[head->rlimits_count++] =
        (struct ox_wire_rlimit){ .resource = resource, .soft = soft, .hard = hard };
}

static void set_rlimits(struct ox_wire_launch *head, const struct ox_run_spec *spec, int is_counted)
{
    const uint64_t none = (uint64_t)RLIM_INFINITY;
    uint64_t cpu = none;

    /* The tree's CPU time is watched by us where something counts it. This is the backstop then, a
     * quarter and a second later: it counts ticks, which on a virtual machine run ahead of the time
     * that was really had. Where nothing does it is all that bounds a process while it runs. Soft
     * below hard, or the signal would be a bare SIGKILL (setrlimit(2)). */
    if (spec->cpu_ns >= 0 && is_counted)
        cpu = (uint64_t)((spec->cpu_ns + spec->cpu_ns / 4 + SECOND - 1) / SECOND) + 1;
    else if (spec->cpu_ns >= 0)
        cpu = (uint64_t)((spec->cpu_ns + SECOND - 1) / SECOND);
    add_rlimit(head, RLIMIT_CPU, cpu, cpu == none ? none : cpu + 1);
    add_rlimit(head, RLIMIT_NOFILE, spec->open_files < 0 ? none : (uint64_t)spec->open_files,
               spec->open_files < 0 ? none : (uint64_t)spec->open_files);
    add_rlimit(head, RLIMIT_FSIZE, spec->file_bytes < 0 ? none : (uint64_t)spec->file_bytes,
               spec->file_bytes < 0 ? none : (uint64_t)spec->file_bytes);
    add_rlimit(head, RLIMIT_NPROC, spec->processes < 0 ? none : (uint64_t)spec->processes,
               spec->processes < 0 ? none : (uint64_t)spec->processes);
}

int ox_request_send(int socket, const struct ox_run_spec *spec, const int *streams, int is_counted)
{
    struct ox_wire_launch head = {
        .kind = OX_MESSAGE_LAUNCH,
        .argc = spec->argc,
        .envc = spec->envc,
        .has_broker = spec->broker >= 0,
        .confirm = spec->confirm != 0,
    };
    int fds[4] = { streams[0], streams[1], streams[2], spec->broker };

    if (spec->strings_size > OX_STRINGS_MAX || spec->argc + spec->envc > OX_POINTERS_MAX)
        return -E2BIG;
    set_rlimits(&head, spec, is_counted);
    return ox_send(socket, &head, sizeof(head), spec->strings, spec->strings_size, fds,
                   spec->broker >= 0 ? 4 : 3);
}

int ox_request_put(int socket, int archive)
{
    struct ox_wire_put head = { .kind = OX_MESSAGE_PUT };

    return ox_send(socket, &head, sizeof(head), NULL, 0, &archive, 1);
}
