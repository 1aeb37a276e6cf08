/* A launch into a warm cell without any Python: the same C that the extension holds. Each launch
 * includes the proof that the cell is empty again, as a pool does it.
 *
 *   warm LAUNCHER PROGRAM      then orders on stdin (orders.h) */
#include "orders.h"

#include "core.h"

#include <fcntl.h>
#include <string.h>

#define MIB (INT64_C(1) << 20)
#define SECOND INT64_C(1000000000)
#define WAIT_MS 15000

/* The documented default; launchers share it, a pair of ids is taken by a lock. */
#define UID_BASE 1880096768u
#define UID_COUNT 65536u

static struct ox_cell cell;

static const char strings[] = "/bin/exit\0/workspace\0/bin/exit\0PATH=/bin\0HOME=/home/plugin\0"
                              "TMPDIR=/tmp\0TMP=/tmp\0TEMP=/tmp\0LANG=C.UTF-8\0"
                              "OXGEN_WORKSPACE=/workspace";

static void launch(void *context)
{
    const struct ox_run_spec *spec = context;
    struct ox_outcome outcome;
    struct ox_error error;
    struct ox_run *run;

    if (ox_run_start(&cell, spec, &run, &error) < 0)
        fail(ox_stage_name(error.stage));
    while (ox_run_step(run, -1) == OX_RUNNING)
        continue;
    ox_run_outcome(run, &outcome);
    ox_run_free(run);
    if (outcome.error.stage != OX_STAGE_NONE || outcome.lost || outcome.status != 0)
        fail("the program did not exit with 0");
    if (ox_cell_is_empty(&cell, 64 * MIB) != 1)
        fail("the cell was not empty");
}

static int serve(const struct ox_launcher *launcher, int program)
{
    struct ox_cell_spec wanted = { .entry = "exit",
                                   .program = program,
                                   .memory_bytes = 512 * MIB,
                                   .processes = 64,
                                   .disk_bytes = 128 * MIB };
    struct ox_run_spec spec = { .strings = strings,
                                .strings_size = sizeof(strings),
                                .argc = 1,
                                .envc = 7,
                                .broker = -1,
                                .wall_ns = 300 * SECOND,
                                .cpu_ns = 60 * SECOND,
                                .output_bytes = 16 * MIB,
                                .open_files = 256,
                                .file_bytes = 64 * MIB,
                                .processes = 64,
                                .wake = -1 };
    struct ox_error error;

    spec.streams[1].mode = OX_STREAM_CAPTURE;
    spec.streams[2].mode = OX_STREAM_CAPTURE;
    if (ox_cell_create(launcher, &wanted, WAIT_MS, &cell, &error) < 0)
        fail(ox_stage_name(error.stage));
    return serve_orders(launch, &spec, NULL);
}

int main(int argc, char **argv)
{
    const struct ox_config config = { .uid_base = UID_BASE,
                                      .uid_count = UID_COUNT,
                                      .cells_max = 4 };
    struct ox_launcher launcher;
    struct ox_problem problem;
    int program, r;

    if (argc != 3) {
        (void)fprintf(stderr, "usage: warm LAUNCHER PROGRAM\n");
        return 2;
    }
    program = open(argv[2], O_RDONLY | O_CLOEXEC);
    if (program < 0)
        fail("the program cannot be opened");
    if (ox_launcher_start(argv[1], &config, WAIT_MS, &launcher, &problem) < 0)
        fail(problem.cause);
    r = serve(&launcher, program);
    (void)ox_launcher_stop(&launcher, WAIT_MS);
    return r;
}
