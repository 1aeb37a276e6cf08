/* What a cell costs that is used once: so many in flight, each made, used for one run, destroyed;
 * beside it bwrap --unshare-all, in turn in the same process.
 *
 *   cells LAUNCHER PROGRAM IN_FLIGHT SECONDS WAY...     way: make, use, bwrap
 *
 * PROGRAM is static and exits with 0. Each way prints how many ended in a second. Needs root. */
#define _GNU_SOURCE 1

#include "product.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MOST 64

extern char **environ;

static int64_t now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * SECOND + now.tv_nsec;
}

static void __attribute__((noreturn)) fail(const char *what, int number)
{
    (void)fprintf(stderr, "cells: %s: %s\n", what, strerror(number));
    exit(1);
}

/* --- ours ------------------------------------------------------------------------------------- */

static void ask(const struct ox_launcher *launcher, const struct ox_cell_spec *spec,
                uint32_t sequence)
{
    struct ox_error error;
    int r = ox_cell_request(launcher, spec, sequence, &error);

    if (r < 0)
        fail("request", -r);
}

static void take(const struct ox_launcher *launcher, struct ox_cell *ret_cell)
{
    struct ox_error error;
    uint32_t sequence;
    int r = ox_cell_answer(launcher, WAIT_MS, &sequence, ret_cell, &error);

    if (r <= 0)
        fail("answer", r < 0 ? -r : ETIMEDOUT);
    if (error.stage != OX_STAGE_NONE)
        fail(ox_stage_name(error.stage), error.errnum);
}

/* Begin a run of the cell's program. */
static struct ox_run *begin(const struct ox_cell *cell)
{
    struct ox_error error;
    struct ox_run *run;
    int r = ox_run_start(cell, &run_spec, &run, &error);

    if (r < 0)
        fail(ox_stage_name(error.stage), -r);
    return run;
}

static void check(struct ox_run *run)
{
    struct ox_outcome outcome;

    ox_run_outcome(run, &outcome);
    ox_run_free(run);
    if (outcome.error.stage != OX_STAGE_NONE)
        fail(ox_stage_name(outcome.error.stage), outcome.error.errnum);
    if (outcome.lost || outcome.status != 0)
        fail("the program did not exit with 0", EIO);
}

static void destroy(const struct ox_launcher *launcher, struct ox_cell *cell)
{
    int r = ox_cell_destroy(launcher, cell);

    if (r < 0)
        fail("destroy", -r);
    ox_cell_forget(cell);
}

static int keep_making(const struct ox_launcher *launcher, const struct ox_cell_spec *spec,
                       int in_flight, int64_t end)
{
    int ended = 0, asked = 0;

    for (; asked < in_flight; asked++)
        ask(launcher, spec, (uint32_t)asked);
    while (ended < asked) {
        struct ox_cell cell;

        take(launcher, &cell);
        destroy(launcher, &cell);
        ended++;
        if (now_ns() < end)
            ask(launcher, spec, (uint32_t)asked++);
    }
    return ended;
}

/* A run and its cell have the place of the request for the cell. */
struct places {
    struct ox_cell cells[MOST];
    struct ox_run *runs[MOST]; /* NULL: free */
};

static void use_next(const struct ox_launcher *launcher, struct ox_loop *loop,
                     struct places *places)
{
    int at = 0, r;

    while (places->runs[at] != NULL)
        at++;
    take(launcher, &places->cells[at]);
    places->runs[at] = begin(&places->cells[at]);
    r = ox_loop_add(loop, places->runs[at], (uint64_t)at);
    if (r < 0)
        fail("loop", -r);
}

static int keep_using(const struct ox_launcher *launcher, const struct ox_cell_spec *spec,
                      int in_flight, int64_t end)
{
    static struct places places;
    struct ox_loop *loop;
    int ended = 0, asked = 0;
    int r = ox_loop_open(&loop);

    if (r < 0)
        fail("loop", -r);
    for (; asked < in_flight; asked++)
        ask(launcher, spec, (uint32_t)asked);
    while (ended < asked) {
        struct pollfd events[2] = { { .fd = launcher->socket, .events = POLLIN },
                                    { .fd = ox_loop_fd(loop), .events = POLLIN } };
        struct ox_news news[MOST];
        int count;

        if (poll(events, 2, WAIT_MS) <= 0)
            fail("poll", ETIMEDOUT);
        if (events[0].revents != 0)
            use_next(launcher, loop, &places);
        if (events[1].revents == 0)
            continue;
        count = ox_loop_step(loop, 0, news, MOST);
        for (int i = 0; i < count; i++) {
            check(places.runs[news[i].token]);
            places.runs[news[i].token] = NULL;
            destroy(launcher, &places.cells[news[i].token]);
            ended++;
            if (now_ns() < end)
                ask(launcher, spec, (uint32_t)asked++);
        }
    }
    ox_loop_free(loop);
    return ended;
}

/* --- bwrap ------------------------------------------------------------------------------------ */

static pid_t spawn_bwrap(const char *program)
{
    char *argv[] = { (char *)"bwrap",
                     (char *)"--unshare-all",
                     (char *)"--ro-bind",
                     (char *)program,
                     (char *)"/program",
                     (char *)"/program",
                     NULL };
    pid_t pid;
    int r = posix_spawnp(&pid, "bwrap", NULL, NULL, argv, environ);

    if (r != 0)
        fail("bwrap", r);
    return pid;
}

static int keep_bwrap(const char *program, int in_flight, int64_t end)
{
    int ended = 0, under_way = 0;

    for (; under_way < in_flight; under_way++)
        (void)spawn_bwrap(program);
    while (under_way > 0) {
        int status;

        if (waitpid(-1, &status, 0) < 0)
            fail("waitpid", errno);
        if (status != 0)
            fail("bwrap failed", EIO);
        ended++;
        under_way--;
        if (now_ns() < end) {
            (void)spawn_bwrap(program);
            under_way++;
        }
    }
    return ended;
}

/* --- all in turn ------------------------------------------------------------------------------ */

static void start(const char *path, int in_flight, struct ox_launcher *ret)
{
    struct ox_config config = { .uid_base = UID_BASE,
                                .uid_count = UID_COUNT,
                                .cells_max = (uint32_t)in_flight + 8 };
    struct ox_problem problem;

    if (ox_launcher_start(path, &config, WAIT_MS, ret, &problem) < 0)
        fail(problem.cause, problem.error.errnum);
}

static void measure(const struct ox_launcher *launcher, const char *program, int in_flight,
                    double seconds, const char *way)
{
    struct ox_cell_spec spec = { .entry = "program",
                                 .cpu_quota_us = -1,
                                 .program = open(program, O_RDONLY | O_CLOEXEC),
                                 .memory_bytes = 256 * MIB,
                                 .processes = 64,
                                 .disk_bytes = 64 * MIB };
    int64_t begun = now_ns();
    int64_t end = begun + (int64_t)(seconds * (double)SECOND);
    int ended;

    if (spec.program < 0)
        fail(program, errno);
    if (strcmp(way, "bwrap") == 0)
        ended = keep_bwrap(program, in_flight, end);
    else if (strcmp(way, "use") == 0)
        ended = keep_using(launcher, &spec, in_flight, end);
    else
        ended = keep_making(launcher, &spec, in_flight, end);
    (void)close(spec.program);
    (void)printf("%s %.0f\n", way, (double)ended * (double)SECOND / (double)(now_ns() - begun));
    (void)fflush(stdout);
}

int main(int argc, char **argv)
{
    struct ox_launcher launcher;
    int in_flight;

    if (argc < 6 || (in_flight = atoi(argv[3])) < 1 || in_flight > MOST) {
        (void)fprintf(stderr, "cells LAUNCHER PROGRAM IN_FLIGHT SECONDS WAY...\n");
        return 2;
    }
    start(argv[1], in_flight, &launcher);
    for (int i = 5; i < argc; i++)
        measure(&launcher, argv[2], in_flight, atof(argv[4]), argv[i]);
    return ox_launcher_stop(&launcher, WAIT_MS) < 0 ? 1 : 0;
}
