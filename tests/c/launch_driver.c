/* The launch core without Python: what csrc/api.h promises of launchers, cells and runs, asked of
 * whatever kernel this runs on. Needs root. */
#define _GNU_SOURCE 1

#include "launch_frame.h"

#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/utsname.h>

static struct stage stage;
static struct ended *const ended = &stage.ended;
static struct ox_outcome *const outcome = &stage.ended.outcome;

/* --- a run that ends by itself -------------------------------------------------------------- */

static int output_and_exit_status_are_the_programs(void)
{
    CHECK_EQUAL(run_once(&plain_cell, &plain_run, "say", "hello", &stage), 0);
    CHECK_CLEAN(outcome);
    CHECK_TEXT(ended->out, "hello\n");
    CHECK_EQUAL(outcome->status, 0);
    CHECK_EQUAL(outcome->oom_kills, 0);
    CHECK_EQUAL(run_again(&stage, "exit", "7"), 0);
    CHECK_CLEAN(outcome);
    CHECK_EQUAL(outcome->status, W_EXITCODE(7, 0));
    return strike(&stage);
}

static int input_reaches_the_program_and_ends(void)
{
    struct ox_run_spec run = plain_run;

    run.streams[0].mode = OX_STREAM_CAPTURE;
    run.input = "a line\n";
    run.input_size = 7;
    CHECK_EQUAL(run_once(&plain_cell, &run, "copy", "", &stage), 0);
    CHECK_CLEAN(outcome);
    CHECK_TEXT(ended->out, "a line\n");
    return strike(&stage);
}

/* A plugin comes as a memfd, which cannot be mounted, and a digest. The second cell gets the
 * store's copy: what is behind its descriptor is empty. */
static int a_digest_runs_the_copy_in_the_store(void)
{
    static const char digest[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    struct ox_cell_spec spec = plain_cell;
    struct ox_cell second;
    char path[PATH_MAX];
    struct stat what;
    int source;

    CHECK_EQUAL(beside("probe", path), 0);
    source = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fstat(source, &what) == 0);
    spec.program = memfd_create("program", MFD_CLOEXEC);
    spec.digest = digest;
    CHECK_EQUAL(sendfile(spec.program, source, NULL, (size_t)what.st_size), what.st_size);

    CHECK_EQUAL(run_once(&spec, &plain_run, "say", "one", &stage), 0);
    CHECK_TEXT(ended->out, "one\n");
    CHECK_EQUAL(ftruncate(spec.program, 0), 0);
    CHECK_EQUAL(make(&stage.launcher, &spec, &second), 0);
    CHECK_EQUAL(run_with(&second, &plain_run, "say", "two", ended), 0);
    CHECK_CLEAN(outcome);
    CHECK_TEXT(ended->out, "two\n");
    ox_cell_forget(&second);
    return strike(&stage);
}

/* --- files ---------------------------------------------------------------------------------- */

static int put(int archive, const char *name, const char *content)
{
    struct ox_file_head head = { .size = strlen(content), .mode = 0644 };

    head.name_size = (uint32_t)strlen(name);
    return write(archive, &head, sizeof(head)) == (ssize_t)sizeof(head) &&
                   write(archive, name, head.name_size) == (ssize_t)head.name_size &&
                   write(archive, content, head.size) == (ssize_t)head.size
               ? 0
               : -1;
}

static int files_go_in_and_come_out(void)
{
    static const char names[] = "one\0deep/er/two\0none\0deep";
    struct ox_run_spec run = plain_run;
    static struct ox_collection found;
    char content[8] = "";

    CHECK_EQUAL(ox_memory_file("archive", &run.files), 0);
    CHECK_EQUAL(put(run.files, "one", "first"), 0);
    CHECK_EQUAL(put(run.files, "deep/er/two", ""), 0);
    CHECK_EQUAL(run_once(&plain_cell, &run, "exit", "0", &stage), 0);
    CHECK_CLEAN(outcome);

    CHECK_EQUAL(ox_cell_collect(&stage.cell, names, sizeof(names), 4, 1000, &found), 0);
    CHECK_EQUAL(found.count, 4);
    CHECK_EQUAL(pread(found.files[0].fd, content, sizeof(content), 0), 5);
    CHECK_TEXT(content, "first");
    CHECK_EQUAL(pread(found.files[1].fd, content, sizeof(content), 0), 0);
    CHECK_EQUAL(found.files[2].errnum, ENOENT);
    CHECK_EQUAL(found.files[3].fd, -1);
    CHECK(S_ISDIR(found.files[3].mode));
    ox_collection_close(&found);
    CHECK_EQUAL(ox_cell_is_empty(&stage.cell, -1), 0);
    ox_close(&run.files);
    return strike(&stage);
}

static int files_that_cannot_go_in_stop_the_launch(void)
{
    struct ox_run_spec run = plain_run;

    CHECK_EQUAL(ox_memory_file("archive", &run.files), 0);
    CHECK_EQUAL(put(run.files, "one", "first"), 0);
    CHECK_EQUAL(put(run.files, "one", "second"), 0);
    CHECK_EQUAL(run_once(&plain_cell, &run, "say", "ran", &stage), 0);
    CHECK_EQUAL(outcome->error.stage, OX_STAGE_FILES);
    CHECK_EQUAL(outcome->error.errnum, EEXIST);
    CHECK_EQUAL(outcome->file, 1);
    CHECK_TEXT(ended->out, "");
    CHECK_EQUAL(run_again(&stage, "say", "next"), 0);
    CHECK_TEXT(ended->out, "next\n");
    ox_close(&run.files);
    return strike(&stage);
}

/* The tree comes from a mount with all the flags that a cell may not take away: as an ordinary
 * /run or /tmp is. */
static int a_mounted_directory_can_be_read_and_not_written(void)
{
    struct ox_cell_spec spec = plain_cell;
    struct ox_mount mount = { .destination = "/usr/share/given", .fd = -1 };
    char directory[] = "/run/oxtest-XXXXXX";
    char expected[64];
    int file;

    CHECK(mkdtemp(directory) != NULL);
    CHECK_EQUAL(chmod(directory, 0755), 0);
    mount.fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    file = openat(mount.fd, "file", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    CHECK_EQUAL(fchmod(file, 0666), 0);
    CHECK_EQUAL(write(file, "words", 5), 5);
    spec.mounts = &mount;
    spec.mounts_count = 1;
    CHECK_EQUAL(run_once(&spec, &plain_run, "look-at", "/usr/share/given/file", &stage), 0);
    CHECK_CLEAN(outcome);
    (void)snprintf(expected, sizeof(expected), "text=words write=%d\n", EROFS);
    CHECK_TEXT(ended->out, expected);
    CHECK_EQUAL(unlinkat(mount.fd, "file", 0), 0);
    CHECK_EQUAL(rmdir(directory), 0);
    return strike(&stage);
}

static int the_broker_is_descriptor_3_and_the_last(void)
{
    struct ox_run_spec run = plain_run;
    char text[8] = "";
    char expected[64];
    int pair[2];

    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    run.broker = pair[1];
    CHECK_EQUAL(run_once(&plain_cell, &run, "broker", "word", &stage), 0);
    CHECK_CLEAN(outcome);
    (void)snprintf(expected, sizeof(expected), "written=4 next=%d\n", EBADF);
    CHECK_TEXT(ended->out, expected);
    CHECK_EQUAL(read(pair[0], text, sizeof(text)), 4);
    CHECK_TEXT(text, "word");
    return strike(&stage);
}

static int output_above_the_limit_is_counted_and_dropped(void)
{
    struct ox_run_spec run = plain_run;

    run.output_bytes = 1000;
    CHECK_EQUAL(run_once(&plain_cell, &run, "flood", "300000", &stage), 0);
    CHECK_CLEAN(outcome);
    CHECK_EQUAL(outcome->truncated, 1);
    CHECK_EQUAL(ended->out_size, 1000);
    CHECK_EQUAL(outcome->written[0], 300000);
    CHECK_EQUAL(outcome->status, 0);
    CHECK_EQUAL(run_again(&stage, "flood", "300000"), 0);
    CHECK_EQUAL(outcome->truncated, 0);
    CHECK_EQUAL(ended->out_size, 300000);
    return strike(&stage);
}

static int a_stray_that_holds_stdout_does_not_hold_the_run(void)
{
    CHECK_EQUAL(run_once(&plain_cell, &plain_run, "stray", "leader", &stage), 0);
    CHECK_CLEAN(outcome);
    CHECK_TEXT(ended->out, "leader\n");
    CHECK_EQUAL(outcome->status, 0);
    CHECK_EQUAL(outcome->strays, 1);
    CHECK(ended->took_ns < 10 * SECOND);
    /* The warden is left, and nobody else. */
    CHECK_EQUAL(processes_in_range(uid_base()), 1);
    return strike(&stage);
}

/* --- limits --------------------------------------------------------------------------------- */

static int the_wall_clock_ends_a_run(void)
{
    struct ox_run_spec run = plain_run;

    run.wall_ns = SECOND / 2;
    CHECK_EQUAL(run_once(&plain_cell, &run, "sleep", "", &stage), 0);
    CHECK_EQUAL(outcome->cause, OX_CAUSE_TIMEOUT);
    CHECK_EQUAL(outcome->status, SIGKILL);
    CHECK(outcome->wall_ns >= SECOND / 2 && outcome->wall_ns < 5 * SECOND);
    CHECK_EQUAL(run_with(&stage.cell, &run, "burn", "4", ended), 0);
    CHECK_EQUAL(outcome->cause, OX_CAUSE_TIMEOUT);
    CHECK(outcome->wall_ns < 5 * SECOND);
    return strike(&stage);
}

static int cpu_time_of_children_is_limited(void)
{
    struct ox_run_spec run = plain_run;

    run.cpu_ns = SECOND / 2;
    CHECK_EQUAL(run_once(&plain_cell, &run, "burn", "3", &stage), 0);
    CHECK_EQUAL(outcome->cause, OX_CAUSE_CPU);
    CHECK_EQUAL(outcome->status, SIGKILL);
    CHECK(outcome->cpu_ns >= SECOND / 2);
    CHECK(outcome->cpu_ns < 5 * SECOND);
    CHECK_EQUAL(run_with(&stage.cell, &run, "say", "short", ended), 0);
    CHECK_EQUAL(outcome->cause, OX_CAUSE_NONE);
    return strike(&stage);
}

static int memory_of_the_leader_is_limited(void)
{
    CHECK_EQUAL(run_once(&plain_cell, &plain_run, "touch", "268435456", &stage), 0);
    CHECK_EQUAL(outcome->cause, OX_CAUSE_NONE);
    CHECK_EQUAL(outcome->status, SIGKILL);
    CHECK(outcome->oom_kills > 0);
    CHECK_EQUAL(outcome->lost, 0);
    CHECK_EQUAL(run_again(&stage, "touch", "8388608"), 0);
    CHECK_CLEAN(outcome);
    CHECK_EQUAL(outcome->status, 0);
    CHECK_EQUAL(outcome->oom_kills, 0);
    return strike(&stage);
}

/* A leader that survives its child and exits with 0 hides nothing. */
static int memory_of_a_child_is_limited(void)
{
    CHECK_EQUAL(run_once(&plain_cell, &plain_run, "touch-in-child", "268435456", &stage), 0);
    CHECK_CLEAN(outcome);
    CHECK_TEXT(ended->out, "signal=9\n");
    CHECK_EQUAL(outcome->status, 0);
    CHECK(outcome->oom_kills > 0);
    return strike(&stage);
}

static int memory_of_many_children_does_not_end_the_warden(void)
{
    CHECK_EQUAL(run_once(&plain_cell, &plain_run, "touch-in-many", "12582912", &stage), 0);
    CHECK_CLEAN(outcome);
    CHECK_TEXT(ended->out, "ended\n");
    CHECK(outcome->oom_kills > 0);
    CHECK_EQUAL(run_again(&stage, "say", "again"), 0);
    CHECK_TEXT(ended->out, "again\n");
    CHECK_EQUAL(outcome->oom_kills, 0);
    return strike(&stage);
}

/* Files count as memory and belong to no process: by size alone the kernel would choose the
 * warden, which is larger than the probe. */
static int memory_of_files_does_not_end_the_warden(void)
{
    struct ox_cell_spec cell = plain_cell;

    cell.memory_bytes = 24 * MIB;
    cell.disk_bytes = 64 * MIB;
    CHECK_EQUAL(run_once(&cell, &plain_run, "fill", "", &stage), 0);
    CHECK_CLEAN(outcome);
    CHECK_EQUAL(outcome->status, SIGKILL);
    CHECK(outcome->oom_kills > 0);
    CHECK_EQUAL(ox_cell_is_empty(&stage.cell, -1), 0);
    return strike(&stage);
}

static int processes_are_limited(void)
{
    struct ox_cell_spec cell = plain_cell;
    char expected[64];

    cell.processes = 8;
    CHECK_EQUAL(run_once(&cell, &plain_run, "fork-many", "20", &stage), 0);
    CHECK_CLEAN(outcome);
    (void)snprintf(expected, sizeof(expected), "children=7 error=%d\n", EAGAIN);
    CHECK_TEXT(ended->out, expected);
    CHECK_EQUAL(outcome->strays, 7);
    CHECK_EQUAL(run_again(&stage, "fork-many", "7"), 0);
    CHECK_TEXT(ended->out, "children=7 error=0\n");
    return strike(&stage);
}

static int a_full_disk_is_an_error_and_no_kill(void)
{
    int kib = 0, error = 0;

    CHECK_EQUAL(run_once(&plain_cell, &plain_run, "fill", "", &stage), 0);
    CHECK_CLEAN(outcome);
    CHECK_EQUAL(sscanf(ended->out, "kib=%d error=%d", &kib, &error), 2);
    CHECK_EQUAL(error, ENOSPC);
    CHECK(kib > 7 * 1024 && kib <= 8 * 1024);
    CHECK_EQUAL(outcome->oom_kills, 0);
    return strike(&stage);
}

/* Kernels: version 1 always, version 2 has the figure since 5.19 and resets it since 6.12. */
static int a_peak_is_that_of_its_run_or_unknown(void)
{
    struct utsname system;
    int major = 0, minor = 0, known, resets;

    CHECK_EQUAL(uname(&system), 0);
    CHECK_EQUAL(sscanf(system.release, "%d.%d", &major, &minor), 2);
    CHECK_EQUAL(run_once(&plain_cell, &plain_run, "touch", "33554432", &stage), 0);
    resets = stage.launcher.memory_version == 1 || major * 100 + minor >= 612;
    known = resets || major * 100 + minor >= 519;
    if (known)
        CHECK(outcome->peak_memory_bytes >= 32 * MIB && outcome->peak_memory_bytes <= 64 * MIB);
    else
        CHECK_EQUAL(outcome->peak_memory_bytes, -1);
    CHECK_EQUAL(run_again(&stage, "say", "small"), 0);
    if (resets)
        CHECK(outcome->peak_memory_bytes > 0 && outcome->peak_memory_bytes < 24 * MIB);
    else
        CHECK_EQUAL(outcome->peak_memory_bytes, -1);
    return strike(&stage);
}

/* --- reuse, end ----------------------------------------------------------------------------- */

static int left_by(const char *what, int *ret_empty)
{
    int error = -1;

    CHECK_EQUAL(run_once(&plain_cell, &plain_run, "leave", what, &stage), 0);
    CHECK_CLEAN(outcome);
    CHECK_EQUAL(sscanf(ended->out, "error=%d", &error), 1);
    *ret_empty = ox_cell_is_empty(&stage.cell, -1);
    CHECK_EQUAL(strike(&stage), 0);
    return error == 0 ? 0 : -error;
}

static int a_program_that_cannot_start_is_named_and_costs_no_cell(void)
{
    static const char digest[] = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";
    struct ox_cell_spec spec = plain_cell;

    spec.digest = digest;
    spec.program = memfd_create("program", MFD_CLOEXEC);
    CHECK_EQUAL(write(spec.program, "words", 5), 5);
    for (int i = 0; i < 2; i++) {
        if (i == 0)
            CHECK_EQUAL(run_once(&spec, &plain_run, "say", "hello", &stage), 0);
        else
            CHECK_EQUAL(run_again(&stage, "say", "hello"), 0);
        CHECK_EQUAL(outcome->error.stage, OX_STAGE_EXEC);
        CHECK_EQUAL(outcome->error.errnum, ENOEXEC);
        CHECK_EQUAL(outcome->emptied, 1);
        CHECK_EQUAL(ended->out_size, 0);
    }
    return strike(&stage);
}

static int a_cell_is_empty_after_a_run_that_left_nothing(void)
{
    int empty = 0;

    CHECK_EQUAL(left_by("nothing", &empty), 0);
    CHECK_EQUAL(empty, 1);
    return 0;
}

static int a_cell_with_a_file_is_not_empty(void)
{
    int empty = 1;

    CHECK_EQUAL(left_by("file", &empty), 0);
    CHECK_EQUAL(empty, 0);
    return 0;
}

static int a_mode_changed_and_changed_back_is_seen(void)
{
    int empty = 1;

    CHECK_EQUAL(left_by("mode", &empty), 0);
    CHECK_EQUAL(empty, 0);
    return 0;
}

/* tmpfs takes user attributes since 6.6. */
static int an_attribute_is_seen_where_there_can_be_one(void)
{
    int empty = -1;
    int r = left_by("xattr", &empty);

    CHECK(r == 0 || r == -EOPNOTSUPP);
    CHECK_EQUAL(empty, r != 0);
    return 0;
}

static int a_destroyed_cell_leaves_nothing(void)
{
    struct ox_cell second;
    int kept;

    CHECK_EQUAL(run_once(&plain_cell, &plain_run, "say", "first", &stage), 0);
    CHECK_EQUAL(make(&stage.launcher, &plain_cell, &second), 0);
    CHECK_EQUAL(processes_in_range(uid_base()), 2);
    kept = cells_of(stage.launcher.pid);
    CHECK(kept >= 2);
    CHECK_EQUAL(end_cell(&stage.launcher, &second), 0);
    /* Dead when end_cell() says so; the launcher buries the warden a moment later. */
    CHECK(WITHIN(1, processes_in_range(uid_base()) - 1));
    CHECK_EQUAL(end_cell(&stage.launcher, &stage.cell), 0);
    CHECK(WITHIN(1, processes_in_range(uid_base())));
    /* Cgroups without a process may be kept for the next cells; stop() sees them go. */
    CHECK(cells_of(stage.launcher.pid) <= kept);
    return stop(&stage.launcher);
}

static int cells_come_and_go_without_a_trace(void)
{
    CHECK_EQUAL(run_once(&plain_cell, &plain_run, "say", "first", &stage), 0);
    for (int i = 0; i < 30; i++) {
        CHECK_EQUAL(end_cell(&stage.launcher, &stage.cell), 0);
        CHECK_EQUAL(make(&stage.launcher, &plain_cell, &stage.cell), 0);
        CHECK_EQUAL(run_again(&stage, "stray", "again"), 0);
        CHECK_CLEAN(outcome);
    }
    CHECK_EQUAL(end_cell(&stage.launcher, &stage.cell), 0);
    /* No promise but that they go: the launcher buries them when it gets to it. */
    CHECK(WITHIN(20, processes_in_range(uid_base())));
    return stop(&stage.launcher);
}

static int cells_beyond_the_number_are_refused_and_come_back(void)
{
    struct ox_cell more[4];

    CHECK_EQUAL(run_once(&plain_cell, &plain_run, "say", "first", &stage), 0);
    for (int i = 0; i < 3; i++)
        CHECK_EQUAL(make(&stage.launcher, &plain_cell, &more[i]), 0);
    CHECK_EQUAL(make(&stage.launcher, &plain_cell, &more[3]), -EBUSY);
    CHECK_EQUAL(end_cell(&stage.launcher, &stage.cell), 0);
    CHECK_EQUAL(make(&stage.launcher, &plain_cell, &stage.cell), 0);
    CHECK_EQUAL(run_again(&stage, "say", "again"), 0);
    CHECK_TEXT(ended->out, "again\n");
    for (int i = 0; i < 3; i++)
        ox_cell_forget(&more[i]);
    return strike(&stage);
}

static const struct check_test tests[] = {
    TEST(output_and_exit_status_are_the_programs),
    TEST(input_reaches_the_program_and_ends),
    TEST(a_digest_runs_the_copy_in_the_store),
    TEST(files_go_in_and_come_out),
    TEST(files_that_cannot_go_in_stop_the_launch),
    TEST(a_mounted_directory_can_be_read_and_not_written),
    TEST(the_broker_is_descriptor_3_and_the_last),
    TEST(output_above_the_limit_is_counted_and_dropped),
    TEST(a_stray_that_holds_stdout_does_not_hold_the_run),
    TEST(the_wall_clock_ends_a_run),
    TEST(cpu_time_of_children_is_limited),
    TEST(memory_of_the_leader_is_limited),
    TEST(memory_of_a_child_is_limited),
    TEST(memory_of_many_children_does_not_end_the_warden),
    TEST(memory_of_files_does_not_end_the_warden),
    TEST(processes_are_limited),
    TEST(a_full_disk_is_an_error_and_no_kill),
    TEST(a_peak_is_that_of_its_run_or_unknown),
    TEST(a_program_that_cannot_start_is_named_and_costs_no_cell),
    TEST(a_cell_is_empty_after_a_run_that_left_nothing),
    TEST(a_cell_with_a_file_is_not_empty),
    TEST(a_mode_changed_and_changed_back_is_seen),
    TEST(an_attribute_is_seen_where_there_can_be_one),
    TEST(a_destroyed_cell_leaves_nothing),
    TEST(cells_come_and_go_without_a_trace),
    TEST(cells_beyond_the_number_are_refused_and_come_back),
};

int main(int argc, char **argv)
{
    return check_main(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
