/* A launch into a warm cell without any Python: the same C that the extension holds. Each launch
 * includes the proof that the cell is empty again, as a pool does it.
 *
 *   warm LAUNCHER PROGRAM PROBE      then orders on stdin (orders.h) */
#include "orders.h"

#include "product.h"

#include <fcntl.h>

/* One run at a time, which is short: as oxgen.run() waits for it. */
#define SPIN_NS 200000

struct cells {
    struct ox_cell target;
    struct ox_cell probe;
};

/* Run the cell's program to its end; the caller frees the run. */
static struct ox_run *run_in(const struct ox_cell *cell)
{
    struct ox_run_spec spec = run_spec;
    struct ox_outcome outcome;
    struct ox_error error;
    struct ox_run *run;
    int r;

    spec.spin_ns = SPIN_NS;
    if (ox_run_start(cell, &spec, &run, &error) < 0)
        fail(ox_stage_name(error.stage));
    do
        r = ox_run_step(run, -1);
    while (r == OX_RUNNING);
    ox_run_outcome(run, &outcome);
    if (outcome.error.stage != OX_STAGE_NONE || outcome.lost || outcome.status != 0)
        fail("the program did not exit with 0");
    return run;
}

static void launch(void *context)
{
    const struct cells *cells = context;

    ox_run_free(run_in(&cells->target));
    if (ox_cell_is_empty(&cells->target, 64 * MIB) != 1)
        fail("the cell was not empty");
}

static void probe(void *context)
{
    const struct cells *cells = context;
    struct ox_run *run = run_in(&cells->probe);
    uint64_t size;
    const char *text = ox_run_captured(run, 1, &size);

    (void)fwrite(text, 1, size, stdout);
    ox_run_free(run);
}

static void make_cell(const struct ox_launcher *launcher, const char *path, struct ox_cell *ret)
{
    struct ox_cell_spec wanted = { .entry = "program",
                                   .cpu_quota_us = -1,
                                   .program = open(path, O_RDONLY | O_CLOEXEC),
                                   .memory_bytes = 512 * MIB,
                                   .processes = 64,
                                   .disk_bytes = 128 * MIB };
    struct ox_error error;

    if (wanted.program < 0)
        fail("a program cannot be opened");
    if (ox_cell_create(launcher, &wanted, WAIT_MS, ret, &error) < 0)
        fail(ox_stage_name(error.stage));
}

int main(int argc, char **argv)
{
    const struct ox_config config = { .uid_base = UID_BASE,
                                      .uid_count = UID_COUNT,
                                      .cells_max = 4 };
    static const struct orders known = { .launch = launch, .probe = probe };
    struct ox_launcher launcher;
    struct ox_problem problem;
    struct cells cells;
    int r;

    if (argc != 4) {
        (void)fprintf(stderr, "usage: warm LAUNCHER PROGRAM PROBE\n");
        return 2;
    }
    if (ox_launcher_start(argv[1], &config, WAIT_MS, &launcher, &problem) < 0)
        fail(problem.cause);
    make_cell(&launcher, argv[2], &cells.target);
    make_cell(&launcher, argv[3], &cells.probe);
    r = serve_orders(&known, &cells);
    (void)ox_launcher_stop(&launcher, WAIT_MS);
    return r;
}
