/* The beginning of a run: its streams, what has been counted before, the launch request. */
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "counters.h"
#include "fail.h"
#include "fd.h"
#include "request.h"
#include "spin.h"
#include "system.h"

/* A pipe belongs to whoever made it, mode 0600: the program, under another uid, could use it but not
 * open it by a name such as /dev/stdout. Who can reach the name has the descriptor already. */
#define OPEN_FOR_READING 0644
#define OPEN_FOR_WRITING 0622

static int make_pipe(int *ret_ours, int *ret_theirs, int ours_is_read, int named)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    *ret_ours = ends[ours_is_read ? 0 : 1];
    *ret_theirs = ends[ours_is_read ? 1 : 0];
    if (named && fchmod(*ret_theirs, ours_is_read ? OPEN_FOR_WRITING : OPEN_FOR_READING) < 0)
        return -errno;
    return fcntl(*ret_ours, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

/* An empty stdin: a pipe without a writer. /dev/null would be the host's own inode in the program's
 * hands, with its times, its locks and whatever else an administrator has put behind the name. */
static int make_empty(int *ret_theirs, int named)
{
    int ours = -1;
    int r = make_pipe(&ours, ret_theirs, 0, named);

    ox_close(&ours);
    return r;
}

static int open_streams(struct ox_run *run, const struct ox_run_spec *spec, int *theirs)
{
    int r = 0;

    switch (spec->streams[0].mode) {
    case OX_STREAM_CAPTURE:
        r = make_pipe(&run->input, &theirs[0], 0, spec->named);
        run->input_bytes = spec->input;
        run->input_left = spec->input_size;
        break;
    case OX_STREAM_DIRECT:
        theirs[0] = fcntl(spec->streams[0].fd, F_DUPFD_CLOEXEC, 0);
        r = theirs[0] < 0 || fchmod(theirs[0], OPEN_FOR_READING) < 0 ? -errno : 0;
        break;
    default: r = make_empty(&theirs[0], spec->named); break;
    }
    for (int i = 1; i < 3 && r == 0; i++) {
        const struct ox_stream *stream = &spec->streams[i];
        struct ox_pump *pump = &run->outputs[i - 1];

        pump->mode = stream->mode;
        pump->sink = stream->fd;
        pump->escape = stream->escape;
        pump->exclusive = stream->exclusive;
        if (stream->mode == OX_STREAM_COPY)
            ox_pump_open_sink(pump);
        if (stream->mode == OX_STREAM_NULL)
            pump->broken =
                1; /* read, counted and dropped: a dead end would be SIGPIPE to the program */
        r = make_pipe(&pump->source, &theirs[i], 1, spec->named);
    }
    return r;
}

/* How fast CPU time can be used up at most. Asked once: the C library reads a file for it. Those that
 * are off count as well, they may be turned on. */
static int64_t count_processors(void)
{
    static long known;
    long count = __atomic_load_n(&known, __ATOMIC_RELAXED);

    if (count < 1) {
        count = sysconf(_SC_NPROCESSORS_CONF);
        if (count < 1)
            count = 1;
        __atomic_store_n(&known, count, __ATOMIC_RELAXED);
    }
    return count;
}

int ox_run_start(const struct ox_cell *cell, const struct ox_run_spec *spec,
                 struct ox_run **ret_run, struct ox_error *ret_error)
{
    struct ox_run *run = calloc(1, sizeof(*run));
    int theirs[3] = { -1, -1, -1 };
    int stage = OX_STAGE_STREAMS, r;

    if (run == NULL)
        return ox_fail(OX_STAGE_REQUEST, -ENOMEM, ret_error);
    run->socket = cell->warden;
    run->pidfd = cell->pidfd;
    run->cpu = cell->cpu;
    run->oom = cell->oom;
    run->peak = cell->peak;
    run->runs_before = cell->runs;
    run->input = run->outputs[0].source = run->outputs[1].source = -1;
    run->wake = spec->wake;
    run->confirm = spec->confirm;
    run->writes = spec->streams[0].mode == OX_STREAM_CAPTURE ||
                  spec->streams[1].mode == OX_STREAM_COPY ||
                  spec->streams[2].mode == OX_STREAM_COPY;
    run->budget.left = spec->output_bytes;
    run->cpu_limit = spec->cpu_ns;
    run->processors = count_processors();

    r = open_streams(run, spec, theirs);
    if (r < 0)
        goto out;
    /* It is there when the program starts, and a short one is at its end. We hold the other end: no
     * SIGPIPE. */
    ox_run_write_input(run);

    stage = OX_STAGE_CGROUP;
    r = run->cpu < 0 ? 0 : ox_cgroup_read_cpu_ns(run->cpu, &run->cpu_before);
    if (r == 0 && run->oom >= 0)
        r = ox_cgroup_read_oom_kills(run->oom, &run->oom_before);
    if (r < 0)
        goto out;
    run->peak_reset = run->peak >= 0 && ox_cgroup_reset_peak(run->peak) == 0;

    run->begun = ox_now_ns();
    run->deadline = spec->wall_ns < 0 ? OX_NEVER : run->begun + spec->wall_ns;
    run->cpu_look = run->cpu_limit < 0 ? OX_NEVER : run->begun + run->cpu_limit / run->processors;
    run->kill_at = OX_NEVER;
    run->spin_until = ox_spin_begin(run->begun, spec->spin_ns);

    run->processor = ox_processor_now();
    stage = OX_STAGE_REQUEST;
    /* Both under the same deadline: the wall limit covers what is put in. */
    r = spec->files < 0 ? 0 : ox_request_put(run->socket, spec->files);
    if (r == 0)
        r = ox_request_send(run->socket, spec, theirs, run->oom >= 0);
    /* A dead warden: the cell was lost before this run began, nothing ran. */
    if (r == -ECONNREFUSED || r == -ECONNRESET || r == -EPIPE)
        stage = OX_STAGE_WARDEN;
out:
    ox_close_all(theirs, 3);
    if (r < 0) {
        ox_run_free(run);
        return ox_fail(stage, r, ret_error);
    }
    *ret_run = run;
    return 0;
}
