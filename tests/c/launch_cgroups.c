/* A cgroup that goes on from one cell to the next is as a new one, or it does not go on. Needs root. */
#define _GNU_SOURCE 1

#include "launch_frame.h"

#include <sys/syscall.h>

#include "../../csrc/posix/counters.h"

#define AT_ONCE 8

static struct stage stage;
static struct ended *const ended = &stage.ended;
static struct ox_outcome *const outcome = &stage.ended.outcome;

/* Limits are those that were asked for, whatever the cell before had: a cell like the plain one but
 * for one limit between two plain ones. */
static int between_plain_cells(const struct ox_cell_spec *small, const char *const plain[3],
                               const char *const within[3])
{
    const struct ox_cell_spec *cells[] = { &plain_cell, small, &plain_cell };
    const char *const *runs[] = { plain, within, plain };

    memset(&stage, 0, sizeof(stage));
    CHECK_EQUAL(start(&stage.launcher), 0);
    for (int i = 0; i < 3; i++) {
        CHECK_EQUAL(make(&stage.launcher, cells[i], &stage.cell), 0);
        CHECK_EQUAL(run_again(&stage, runs[i][0], runs[i][1]), 0);
        CHECK_TEXT(ended->out, runs[i][2]);
        CHECK_EQUAL(bury_only_cell(&stage.launcher, &stage.cell), 0);
    }
    return strike(&stage);
}

static int a_cell_has_its_own_memory_limit(void)
{
    struct ox_cell_spec small = plain_cell;

    small.memory_bytes = 16 * MIB;
    return between_plain_cells(&small,
                               (const char *const[]){ "touch-in-child", "33554432", "signal=0\n" },
                               (const char *const[]){ "touch-in-child", "33554432", "signal=9\n" });
}

static int a_cell_has_its_own_number_of_processes(void)
{
    struct ox_cell_spec small = plain_cell;

    small.processes = 4;
    return between_plain_cells(&small,
                               (const char *const[]){ "fork-many", "10", "children=10 error=0\n" },
                               (const char *const[]){ "fork-many", "10", "children=3 error=11\n" });
}

/* The same limits, so the same cgroup: what the cell before has used and lost is not the next one's. */
static int figures_of_the_cell_before_are_not_the_next_ones(void)
{
    CHECK_EQUAL(run_once(&plain_cell, &plain_run, "touch", "134217728", &stage), 0);
    CHECK(outcome->oom_kills > 0);
    CHECK_EQUAL(bury_only_cell(&stage.launcher, &stage.cell), 0);
    CHECK_EQUAL(make(&stage.launcher, &plain_cell, &stage.cell), 0);
    CHECK_EQUAL(run_again(&stage, "say", "little"), 0);
    CHECK_CLEAN(outcome);
    CHECK_EQUAL(outcome->oom_kills, 0);
    CHECK(outcome->cpu_ns < SECOND / 2);
    CHECK(outcome->peak_memory_bytes < 8 * MIB);
    return strike(&stage);
}

static int is_count(const char *name)
{
    static const char *const words[] = { "procs",   "tasks", "threads",  "usage",      "peak",
                                         "failcnt", "event", "pressure", "oom_control" };

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strstr(name, words[i]) != NULL)
            return 1;
    }
    return 0;
}

static int same_text(int one, int other, const char *name)
{
    char texts[2][4096] = { "", "" };
    int directories[2] = { one, other };

    for (int i = 0; i < 2; i++) {
        int fd = openat(directories[i], name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

        if (fd >= 0 && read(fd, texts[i], sizeof(texts[i]) - 1) < 0)
            texts[i][0] = '\0';
        (void)close(fd);
    }
    if (strcmp(texts[0], texts[1]) == 0)
        return 1;
    fprintf(stderr, "%s: \"%s\" and \"%s\"\n", name, texts[0], texts[1]);
    return 0;
}

/* Settings of a cgroup that are not those of the other: files that can be written and do not count. */
static int other_settings(const char *one, const char *other, int *ret_looked)
{
    int fds[2] = { open(one, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
                   open(other, O_RDONLY | O_DIRECTORY | O_CLOEXEC) };
    DIR *names = opendir(one);
    const struct dirent *entry;
    int count = 0;

    while (names != NULL && (entry = readdir(names)) != NULL) {
        struct stat what;

        if (fstatat(fds[0], entry->d_name, &what, 0) < 0 || !S_ISREG(what.st_mode) ||
            (what.st_mode & S_IWUSR) == 0 || is_count(entry->d_name))
            continue;
        count += !same_text(fds[0], fds[1], entry->d_name);
        (*ret_looked)++;
    }
    (void)closedir(names);
    (void)close(fds[0]);
    (void)close(fds[1]);
    return count;
}

/* "/cell-" and a number, the same in each hierarchy. */
static int name_of_cgroup(const struct ox_cell *cell, char ret_name[32])
{
    char path[64], text[4096] = "";
    const char *found;
    int fd;

    (void)snprintf(path, sizeof(path), "/proc/%d/cgroup", warden_of(cell));
    fd = open(path, O_RDONLY | O_CLOEXEC);
    (void)!read(fd, text, sizeof(text) - 1);
    (void)close(fd);
    found = strstr(text, "/cell-");
    return found == NULL ? -1 : snprintf(ret_name, 32, "%.*s", (int)strcspn(found, "\n"), found);
}

/* In every hierarchy. */
static int other_settings_of(const char *one, const char *other)
{
    int count = 0, looked = 0;

    CHECK(cells_of(stage.launcher.pid) > 0);
    for (int i = 0; i < cells_found; i++) {
        char path[512];
        char *name = strstr(strcpy(path, cell_paths[i]), "/cell-");

        if (strcmp(name, one) == 0) {
            (void)strcpy(name, other);
            count += other_settings(cell_paths[i], path, &looked);
        }
    }
    CHECK(looked >= 4);
    return count;
}

/* The control: one that is not the same is seen. */
static int a_setting_that_differs_is_seen(const char *one, const char *other)
{
    static const char *const files[] = { "notify_on_release", "cgroup.max.depth" };
    int written = 0;

    CHECK(cells_of(stage.launcher.pid) > 0);
    for (int i = 0; i < cells_found; i++) {
        for (int version = 0; version < 2; version++) {
            char path[600];
            int fd;

            (void)snprintf(path, sizeof(path), "%s/%s", cell_paths[i], files[version]);
            fd = strcmp(strstr(cell_paths[i], "/cell-"), one) == 0 ? open(path, O_WRONLY) : -1;
            written += fd >= 0 && write(fd, "1", 1) == 1;
            (void)close(fd);
        }
    }
    CHECK(written > 0);
    CHECK_EQUAL(other_settings_of(one, other), written);
    return 0;
}

/* After cells in which a limit was hit. */
static int settings_of_a_cgroup_that_goes_on_are_those_of_a_new_one(void)
{
    static const char *const hits[][2] = {
        { "say", "" }, { "bomb", "" }, { "touch", "134217728" }, { "fill", "" }
    };
    struct ox_run_spec run = plain_run;
    char name[32], before[32], fresh[32];
    struct ox_cell other;
    int went_on = 0, may;

    run.wall_ns = SECOND / 2;
    CHECK_EQUAL(run_once(&plain_cell, &plain_run, "say", "ready", &stage), 0);
    may = stage.cell.peak < 0 || ox_cgroup_reset_peak(stage.cell.peak) == 0;
    CHECK_EQUAL(make(&stage.launcher, &plain_cell, &other), 0);
    CHECK(name_of_cgroup(&other, fresh) > 0);
    for (size_t i = 0; i < sizeof(hits) / sizeof(hits[0]); i++) {
        CHECK(name_of_cgroup(&stage.cell, before) > 0);
        CHECK_EQUAL(run_with(&stage.cell, &run, hits[i][0], hits[i][1], ended), 0);
        CHECK_EQUAL(ox_cell_destroy(&stage.launcher, &stage.cell), 0);
        CHECK_EQUAL(ox_cell_wait_gone(&stage.cell, WAIT_MS), 0);
        CHECK_EQUAL(make(&stage.launcher, &plain_cell, &stage.cell), 0);
        CHECK(name_of_cgroup(&stage.cell, name) > 0);
        CHECK(strcmp(name, fresh) != 0);
        CHECK_EQUAL(other_settings_of(name, fresh), 0);
        went_on += strcmp(before, name) == 0;
    }
    fprintf(stderr, "%d of 4 went on\n", went_on);
    CHECK(may ? went_on > 0 : went_on == 0);
    CHECK_EQUAL(a_setting_that_differs_is_seen(name, fresh), 0);
    ox_cell_forget(&other);
    return strike(&stage);
}

/* Its counters may still be read by a host that has not given it up: they never count another. */
static int counters_of_a_cell_that_died_are_not_another_ones(void)
{
    struct ox_cell cells[AT_ONCE], other;
    struct ox_problem problem;
    uint64_t cpu = 0, kills = 0, later;

    memset(&stage, 0, sizeof(stage));
    CHECK_EQUAL(start_for(uid_base(), AT_ONCE, &stage.launcher, &problem), 0);
    for (int i = 0; i < AT_ONCE; i++)
        CHECK_EQUAL(make(&stage.launcher, &plain_cell, &cells[i]), 0);
    CHECK_EQUAL(run_with(&cells[0], &plain_run, "say", "last", ended), 0);
    CHECK_EQUAL(ox_cgroup_read_cpu_ns(cells[0].cpu, &cpu), 0);
    CHECK_EQUAL(ox_cgroup_read_oom_kills(cells[0].oom, &kills), 0);
    CHECK_EQUAL(syscall(SYS_pidfd_send_signal, cells[0].pidfd, SIGKILL, NULL, 0), 0);
    CHECK(WITHIN(2, ox_cell_is_alive(&cells[0])));
    /* There is room for it only because that one is dead. */
    CHECK_EQUAL(make(&stage.launcher, &plain_cell, &other), 0);
    CHECK_EQUAL(run_with(&other, &plain_run, "touch", "134217728", ended), 0);
    CHECK(outcome->oom_kills > 0);
    if (ox_cgroup_read_oom_kills(cells[0].oom, &later) == 0)
        CHECK_EQUAL(later, kills);
    if (ox_cgroup_read_cpu_ns(cells[0].cpu, &later) == 0)
        CHECK(later - cpu < SECOND / 50);
    ox_cell_forget(&other);
    for (int i = 0; i < AT_ONCE; i++)
        ox_cell_forget(&cells[i]);
    return stop(&stage.launcher);
}

static const struct check_test tests[] = {
    TEST(a_cell_has_its_own_memory_limit),
    TEST(a_cell_has_its_own_number_of_processes),
    TEST(figures_of_the_cell_before_are_not_the_next_ones),
    TEST(settings_of_a_cgroup_that_goes_on_are_those_of_a_new_one),
    TEST(counters_of_a_cell_that_died_are_not_another_ones),
};

int main(int argc, char **argv)
{
    return check_main(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
