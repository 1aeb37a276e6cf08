/* Many cells at a time: requests, answers under the host's own numbers, ends. Needs root. */
#define _GNU_SOURCE 1

#include "launch_frame.h"

#define AT_ONCE 8

static struct stage stage;
static struct ended *const ended = &stage.ended;

static int start_many(void)
{
    struct ox_problem problem;

    memset(&stage, 0, sizeof(stage));
    return start_for(uid_base(), AT_ONCE, &stage.launcher, &problem);
}

static int ask_for(uint32_t sequence, const char *entry)
{
    struct ox_cell_spec spec = plain_cell;
    struct ox_error error;
    char path[PATH_MAX];
    int r = beside("probe", path);

    spec.entry = entry;
    spec.program = r < 0 ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    r = ox_cell_request(&stage.launcher, &spec, sequence, &error);
    (void)close(spec.program);
    return r;
}

static int ask(uint32_t sequence)
{
    return ask_for(sequence, "probe");
}

/* 1: sequence was answered with a cell or an error. */
static int take(uint32_t *ret_sequence, struct ox_cell *ret_cell, struct ox_error *ret_error)
{
    memset(ret_cell, 0xff, sizeof(*ret_cell));
    return ox_cell_answer(&stage.launcher, WAIT_MS, ret_sequence, ret_cell, ret_error);
}

/* --- requests and answers --------------------------------------------------------------------- */

static int many_requests_are_answered_each_under_its_number(void)
{
    struct ox_cell cells[AT_ONCE];
    struct ox_error error;
    uint32_t sequence, seen = 0;

    CHECK_EQUAL(start_many(), 0);
    for (uint32_t i = 0; i < AT_ONCE; i++)
        CHECK_EQUAL(ask(100 + i), 0);
    for (int i = 0; i < AT_ONCE; i++) {
        CHECK_EQUAL(take(&sequence, &cells[i], &error), 1);
        CHECK_EQUAL(error.stage, OX_STAGE_NONE);
        CHECK(sequence >= 100 && sequence < 100 + AT_ONCE);
        CHECK_EQUAL(seen & 1u << (sequence - 100), 0);
        seen |= 1u << (sequence - 100);
        CHECK_EQUAL(run_with(&cells[i], &plain_run, "say", "hello", ended), 0);
        CHECK_TEXT(ended->out, "hello\n");
    }
    CHECK_EQUAL(processes_in_range(uid_base()), AT_ONCE);
    for (int i = 0; i < AT_ONCE; i++)
        CHECK_EQUAL(end_cell(&stage.launcher, &cells[i]), 0);
    CHECK(all_gone());
    return stop(&stage.launcher);
}

/* One that is refused does not wait for one that is being made: both are there when the launcher goes
 * on, and a cell needs more than one of its turns. */
static int answers_come_when_there_is_something_to_say(void)
{
    struct ox_cell cell;
    struct ox_error error;
    uint32_t sequence;

    CHECK_EQUAL(start_many(), 0);
    for (uint32_t i = 0; i < 10; i++) {
        CHECK_EQUAL(kill(stage.launcher.pid, SIGSTOP), 0);
        CHECK_EQUAL(ask(2 * i), 0);
        CHECK_EQUAL(ask_for(2 * i + 1, "a/b"), 0);
        CHECK_EQUAL(kill(stage.launcher.pid, SIGCONT), 0);
        CHECK_EQUAL(take(&sequence, &cell, &error), 1);
        CHECK_EQUAL(sequence, 2 * i + 1);
        CHECK_EQUAL(error.stage, OX_STAGE_REQUEST);
        CHECK_EQUAL(error.errnum, EINVAL);
        CHECK_EQUAL(take(&sequence, &cell, &error), 1);
        CHECK_EQUAL(sequence, 2 * i);
        CHECK_EQUAL(error.stage, OX_STAGE_NONE);
        CHECK_EQUAL(end_cell(&stage.launcher, &cell), 0);
    }
    return stop(&stage.launcher);
}

static int requests_beyond_the_number_of_cells_are_refused(void)
{
    struct ox_cell cell, kept[AT_ONCE];
    struct ox_error error;
    uint32_t sequence;
    int made = 0, refused = 0;

    CHECK_EQUAL(start_many(), 0);
    for (uint32_t i = 0; i < 2 * AT_ONCE; i++)
        CHECK_EQUAL(ask(i), 0);
    for (int i = 0; i < 2 * AT_ONCE; i++) {
        CHECK_EQUAL(take(&sequence, &cell, &error), 1);
        if (error.stage == OX_STAGE_NONE) {
            CHECK(made < AT_ONCE);
            kept[made++] = cell;
        } else {
            CHECK_EQUAL(error.stage, OX_STAGE_REQUEST);
            CHECK_EQUAL(error.errnum, EBUSY);
            refused++;
        }
    }
    CHECK_EQUAL(made, AT_ONCE);
    CHECK_EQUAL(refused, AT_ONCE);
    CHECK_EQUAL(end_cell(&stage.launcher, &kept[0]), 0);
    CHECK_EQUAL(ask(7), 0);
    CHECK_EQUAL(take(&sequence, &cell, &error), 1);
    CHECK_EQUAL(error.stage, OX_STAGE_NONE);
    return stop(&stage.launcher);
}

/* There are uids for eight cells: those that end give theirs to those that are asked for. */
static int a_request_waits_for_the_uids_of_a_cell_that_ends(void)
{
    struct ox_cell cells[AT_ONCE];
    struct ox_error error;
    uint32_t sequence;

    CHECK_EQUAL(start_many(), 0);
    for (int i = 0; i < AT_ONCE; i++)
        CHECK_EQUAL(make(&stage.launcher, &plain_cell, &cells[i]), 0);
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < AT_ONCE; i++) {
            CHECK_EQUAL(ox_cell_destroy(&stage.launcher, &cells[i]), 0);
            ox_cell_forget(&cells[i]);
            CHECK_EQUAL(ask((uint32_t)i), 0);
        }
        for (int i = 0; i < AT_ONCE; i++) {
            CHECK_EQUAL(take(&sequence, &cells[i], &error), 1);
            CHECK_EQUAL(error.stage, OX_STAGE_NONE);
        }
    }
    return stop(&stage.launcher);
}

static int no_answer_is_no_error(void)
{
    struct ox_cell cell;
    struct ox_error error;
    uint32_t sequence;

    CHECK_EQUAL(start_many(), 0);
    CHECK_EQUAL(ox_cell_answer(&stage.launcher, 20, &sequence, &cell, &error), 0);
    CHECK_EQUAL(kill(stage.launcher.pid, SIGKILL), 0);
    CHECK(take(&sequence, &cell, &error) < 0);
    CHECK_EQUAL(ox_launcher_stop(&stage.launcher, WAIT_MS), 0);
    return 0;
}

/* The answer that nobody waited for comes later; its cell is nobody's. */
static int a_caller_that_gave_up_gets_no_cell_of_an_earlier_call(void)
{
    struct ox_cell_spec spec = plain_cell;
    struct ox_error error;
    char path[PATH_MAX];

    CHECK_EQUAL(start_many(), 0);
    CHECK_EQUAL(beside("probe", path), 0);
    spec.program = open(path, O_RDONLY | O_CLOEXEC);
    spec.entry = "other";
    CHECK_EQUAL(ox_cell_create(&stage.launcher, &spec, 0, &stage.cell, &error), -ETIMEDOUT);
    CHECK_EQUAL(error.stage, OX_STAGE_LAUNCHER);
    CHECK_EQUAL(make(&stage.launcher, &plain_cell, &stage.cell), 0);
    CHECK_EQUAL(run_again(&stage, "say", "mine"), 0);
    CHECK_TEXT(ended->out, "mine\n");
    CHECK(WITHIN(20, processes_in_range(uid_base()) - 1));
    return strike(&stage);
}

/* --- ends ------------------------------------------------------------------------------------- */

static int a_host_that_lets_go_ends_cells_that_are_being_made(void)
{
    CHECK_EQUAL(start_many(), 0);
    for (uint32_t i = 0; i < AT_ONCE; i++)
        CHECK_EQUAL(ask(i), 0);
    return stop(&stage.launcher);
}

/* 0 when nobody holds a lock on a uid of the range. */
static int locked_uids(uint32_t base)
{
    struct flock lock = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)base, .l_len = 16
    };
    int fd = open("/run/oxgen/uids", O_RDWR | O_CLOEXEC);
    int r = fd < 0 ? -1 : fcntl(fd, F_OFD_GETLK, &lock);

    (void)close(fd);
    return r < 0 ? -1 : lock.l_type != F_UNLCK;
}

static int is_there(int pid)
{
    (void)waitpid(pid, NULL, WNOHANG);
    return kill(pid, 0) == 0;
}

/* A host that asks for eight cells and reads no answer. */
static void be_host(int report)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (start_many() < 0)
        _exit(1);
    for (uint32_t i = 0; i < AT_ONCE; i++) {
        if (ask(i) < 0)
            _exit(1);
    }
    (void)!write(report, &stage.launcher.pid, sizeof(stage.launcher.pid));
    for (;;)
        (void)pause();
}

/* delay_us: from the requests to the kill. */
static int dies_while_cells_are_made(int of_host, useconds_t delay_us)
{
    uint32_t base = uid_base();
    int pipes[2], launcher;
    pid_t host;

    CHECK_EQUAL(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
    CHECK_EQUAL(pipe2(pipes, O_CLOEXEC), 0);
    host = fork();
    if (host == 0)
        be_host(pipes[1]);
    (void)close(pipes[1]);
    CHECK_EQUAL(read(pipes[0], &launcher, sizeof(launcher)), sizeof(launcher));
    (void)close(pipes[0]);
    (void)usleep(delay_us);

    CHECK_EQUAL(kill(of_host ? host : launcher, SIGKILL), 0);
    if (!of_host) {
        CHECK(WITHIN(2, processes_in_range(base)));
        CHECK_EQUAL(kill(host, SIGKILL), 0);
    }
    CHECK_EQUAL(waitpid(host, NULL, 0), host);
    CHECK(WITHIN(2, is_there(launcher) + processes_in_range(base)));
    CHECK_EQUAL(locked_uids(base), 0);
    if (of_host)
        CHECK_EQUAL(count_cgroups(launcher), 0);
    return 0;
}

static int nothing_outlives_a_host_killed_while_cells_are_made(void)
{
    for (useconds_t delay = 0; delay < 8000; delay += 500) {
        if (dies_while_cells_are_made(1, delay) != 0)
            return 1;
    }
    return 0;
}

static int nothing_outlives_a_launcher_killed_while_cells_are_made(void)
{
    for (useconds_t delay = 0; delay < 8000; delay += 500) {
        if (dies_while_cells_are_made(0, delay) != 0)
            return 1;
    }
    /* What it left of cgroups goes with the next start. */
    CHECK_EQUAL(start_many(), 0);
    return stop(&stage.launcher);
}

/* --- what stays ------------------------------------------------------------------------------- */

static int count_names(const char *format, int pid)
{
    char path[64];
    DIR *directory;
    int count = 0;

    (void)snprintf(path, sizeof(path), format, pid);
    directory = opendir(path);
    while (directory != NULL && readdir(directory) != NULL)
        count++;
    if (directory != NULL)
        (void)closedir(directory);
    return count;
}

static int count_lines(const char *format, int pid)
{
    char path[64];
    FILE *file;
    int count = 0, c;

    (void)snprintf(path, sizeof(path), format, pid);
    file = fopen(path, "re");
    while (file != NULL && (c = fgetc(file)) != EOF)
        count += c == '\n';
    if (file != NULL)
        (void)fclose(file);
    return count;
}

static int use_cells(int count)
{
    struct ox_cell cell;
    struct ox_error error;
    uint32_t sequence;
    int asked = 0, ended_count = 0;

    for (; asked < AT_ONCE; asked++)
        CHECK_EQUAL(ask((uint32_t)asked), 0);
    for (; ended_count < count; ended_count++) {
        CHECK_EQUAL(take(&sequence, &cell, &error), 1);
        CHECK_EQUAL(error.stage, OX_STAGE_NONE);
        CHECK_EQUAL(ox_cell_destroy(&stage.launcher, &cell), 0);
        ox_cell_forget(&cell);
        if (asked < count)
            CHECK_EQUAL(ask((uint32_t)asked++), 0);
    }
    CHECK(all_gone());
    return 0;
}

static int two_hundred_cells_leave_the_launcher_as_it_was(void)
{
    int pid, descriptors, mounts, threads;

    CHECK_EQUAL(start_many(), 0);
    pid = stage.launcher.pid;
    descriptors = count_names("/proc/%d/fd", pid);
    mounts = count_lines("/proc/%d/mountinfo", pid);
    threads = count_names("/proc/%d/task", pid);
    CHECK_EQUAL(use_cells(200), 0);
    /* Sixteen cgroups and network namespaces may be kept, with at most nine descriptors a pair. */
    CHECK(count_names("/proc/%d/fd", pid) - descriptors <= 16 * 9);
    CHECK(cells_of(pid) <= 16 * 3);
    CHECK_EQUAL(count_lines("/proc/%d/mountinfo", pid), mounts);
    CHECK_EQUAL(count_names("/proc/%d/task", pid), threads);
    CHECK_EQUAL(locked_uids(uid_base()), 0);
    return stop(&stage.launcher);
}

/* The outer root, the jail, what can be written and its three places, the program: nothing of the
 * host's, nothing that goes on to another mount namespace or comes from one. */
static int mounts_of_a_cell_are_its_own(void)
{
    char path[64], line[512];
    int count = 0, read_only = 0;
    FILE *mounts;

    CHECK_EQUAL(run_once(&plain_cell, &plain_run, "say", "ready", &stage), 0);
    (void)snprintf(path, sizeof(path), "/proc/%d/mountinfo", warden_of(&stage.cell));
    mounts = fopen(path, "re");
    CHECK(mounts != NULL);
    while (fgets(line, sizeof(line), mounts) != NULL) {
        CHECK(strstr(line, " shared:") == NULL && strstr(line, " master:") == NULL);
        CHECK(strstr(line, " - tmpfs ") != NULL || strstr(line, " /jail/bin/probe ro,") != NULL);
        read_only += strstr(line, " / / ro,nosuid,nodev,noexec") != NULL;
        count++;
    }
    (void)fclose(mounts);
    CHECK_EQUAL(count, 7);
    CHECK_EQUAL(read_only, 1);
    return strike(&stage);
}

static const struct check_test tests[] = {
    TEST(many_requests_are_answered_each_under_its_number),
    TEST(answers_come_when_there_is_something_to_say),
    TEST(requests_beyond_the_number_of_cells_are_refused),
    TEST(a_request_waits_for_the_uids_of_a_cell_that_ends),
    TEST(no_answer_is_no_error),
    TEST(a_caller_that_gave_up_gets_no_cell_of_an_earlier_call),
    TEST(a_host_that_lets_go_ends_cells_that_are_being_made),
    TEST(nothing_outlives_a_host_killed_while_cells_are_made),
    TEST(nothing_outlives_a_launcher_killed_while_cells_are_made),
    TEST(two_hundred_cells_leave_the_launcher_as_it_was),
    TEST(mounts_of_a_cell_are_its_own),
};

int main(int argc, char **argv)
{
    return check_main(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
