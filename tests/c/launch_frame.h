/* What the launch tests share: a launcher, a cell for the probe, a run of it, and ways to look from
 * outside at what is left. The launcher's executable and the probe lie beside the test. */
#ifndef OX_LAUNCH_FRAME_H
#define OX_LAUNCH_FRAME_H

#include "check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>

#include "../../csrc/core.h"

/* Not every file of tests needs every one. */
#define UNUSED __attribute__((unused))
#define MIB (INT64_C(1) << 20)
#define SECOND INT64_C(1000000000)
#define WAIT_MS 20000

/* Each test is a process of its own and has uids of its own, so that its processes can be told
 * from others. They lie in the documented range. */
static uint32_t uid_base(void)
{
    return 1880096768u + (uint32_t)getpid() % 4096u * 16u;
}

static int beside(const char *name, char ret_path[PATH_MAX])
{
    ssize_t size = readlink("/proc/self/exe", ret_path, PATH_MAX - 32);
    char *slash;

    if (size < 0)
        return -errno;
    ret_path[size] = '\0';
    slash = strrchr(ret_path, '/');
    (void)snprintf(slash + 1, 32, "%s", name);
    return 0;
}

static int64_t now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_BOOTTIME, &now);
    return (int64_t)now.tv_sec * SECOND + now.tv_nsec;
}

/* --- launcher, cell, run -------------------------------------------------------------------- */

static int start_for(uint32_t base, uint32_t cells, struct ox_launcher *ret,
                     struct ox_problem *ret_problem)
{
    struct ox_config config = { .uid_base = base, .uid_count = 16, .cells_max = cells };
    char path[PATH_MAX];
    int r = beside("launcher", path);

    return r < 0 ? r : ox_launcher_start(path, &config, WAIT_MS, ret, ret_problem);
}

static int start_in_range(uint32_t base, struct ox_launcher *ret, struct ox_problem *ret_problem)
{
    return start_for(base, 4, ret, ret_problem);
}

static int start(struct ox_launcher *ret)
{
    struct ox_problem problem = { .cause = "" };
    int r = start_in_range(uid_base(), ret, &problem);

    if (r < 0)
        fprintf(stderr, "no launcher: %s: %s (%s)\n", ox_stage_name(problem.error.stage),
                problem.cause, problem.remedy);
    return r;
}

UNUSED static const struct ox_cell_spec plain_cell = {
    .entry = "probe",
    .program = -1,
    .cpu_quota_us = -1,
    .memory_bytes = 64 * MIB,
    .processes = 16,
    .disk_bytes = 8 * MIB,
};

static int make(const struct ox_launcher *launcher, const struct ox_cell_spec *spec,
                struct ox_cell *ret)
{
    struct ox_cell_spec filled = *spec;
    struct ox_error error = { 0, 0 };
    char path[PATH_MAX];
    int r = 0, own = -1;

    if (filled.program < 0) {
        r = beside("probe", path);
        own = filled.program = r < 0 ? -1 : open(path, O_RDONLY | O_CLOEXEC);
        r = own < 0 ? -errno : 0;
    }
    if (r == 0)
        r = ox_cell_create(launcher, &filled, WAIT_MS, ret, &error);
    if (own >= 0)
        (void)close(own);
    if (r < 0)
        fprintf(stderr, "no cell: %s: %s\n", ox_stage_name(error.stage), strerror(-r));
    return r;
}

static const struct ox_run_spec plain_run = {
    .broker = -1,
    .streams = { { .mode = OX_STREAM_NULL, .fd = -1 },
                 { .mode = OX_STREAM_CAPTURE, .fd = -1 },
                 { .mode = OX_STREAM_CAPTURE, .fd = -1 } },
    .wall_ns = 30 * SECOND,
    .cpu_ns = -1,
    .output_bytes = MIB,
    .open_files = 64,
    .file_bytes = -1,
    .processes = 16,
    .wake = -1,
    .files = -1,
};

static int start_run(struct ox_cell *cell, const struct ox_run_spec *spec, const char *command,
                     const char *word, struct ox_run **ret)
{
    struct ox_run_spec filled = *spec;
    struct ox_error error = { 0, 0 };
    char strings[256];
    int size, r;

    size = snprintf(strings, sizeof(strings), "/bin/probe%c/workspace%cprobe%c%s%c%s", 0, 0, 0,
                    command, 0, word);
    filled.strings = strings;
    filled.strings_size = (uint32_t)size + 1;
    filled.argc = 3;
    r = ox_run_start(cell, &filled, ret, &error);
    cell->runs++;
    if (r < 0)
        fprintf(stderr, "no run: %s: %s\n", ox_stage_name(error.stage), strerror(-r));
    return r;
}

struct ended {
    struct ox_outcome outcome;
    char out[8192];
    uint64_t out_size;
    int64_t took_ns;
};

static int run_with(struct ox_cell *cell, const struct ox_run_spec *spec, const char *command,
                    const char *word, struct ended *ret)
{
    struct ox_run *run = NULL;
    int64_t begun = now_ns();
    int r = start_run(cell, spec, command, word, &run);
    const char *bytes;

    if (r < 0)
        return r;
    do
        r = ox_run_step(run, 1000);
    while (r == OX_RUNNING && now_ns() - begun < 50 * SECOND);
    ret->took_ns = now_ns() - begun;
    ox_run_outcome(run, &ret->outcome);
    bytes = ox_run_captured(run, 1, &ret->out_size);
    memset(ret->out, 0, sizeof(ret->out));
    memcpy(ret->out, bytes == NULL ? "" : bytes,
           ret->out_size < sizeof(ret->out) ? (size_t)ret->out_size : sizeof(ret->out) - 1);
    ox_run_free(run);
    if (ret->outcome.error.stage != OX_STAGE_NONE)
        fprintf(stderr, "never ran: %s: %s\n", ox_stage_name(ret->outcome.error.stage),
                strerror(ret->outcome.error.errnum));
    return r == OX_ENDED ? 0 : r < 0 ? r : -ETIMEDOUT;
}

/* What most tests begin with: all of it, once. */
struct stage {
    struct ox_launcher launcher;
    struct ox_cell cell;
    struct ended ended;
};

UNUSED static int run_once(const struct ox_cell_spec *cell, const struct ox_run_spec *run,
                           const char *command, const char *word, struct stage *ret)
{
    memset(ret, 0, sizeof(*ret));
    if (start(&ret->launcher) < 0 || make(&ret->launcher, cell, &ret->cell) < 0 ||
        run_with(&ret->cell, run, command, word, &ret->ended) < 0)
        return -1;
    return 0;
}

UNUSED static int run_again(struct stage *stage, const char *command, const char *word)
{
    return run_with(&stage->cell, &plain_run, command, word, &stage->ended);
}

#define CHECK_TEXT(actual, expected) \
    do { \
        if (strcmp(actual, expected) != 0) { \
            fprintf(stderr, "%s:%d: %s is \"%s\", expected \"%s\"\n", __FILE__, __LINE__, #actual, \
                    actual, expected); \
            return 1; \
        } \
    } while (0)

/* It ran, nothing but the program ended it. */
#define CHECK_CLEAN(outcome) \
    do { \
        CHECK_EQUAL((outcome)->error.stage, OX_STAGE_NONE); \
        CHECK_EQUAL((outcome)->lost, 0); \
        CHECK_EQUAL((outcome)->cause, OX_CAUSE_NONE); \
        CHECK_EQUAL((outcome)->emptied, 1); \
    } while (0)

/* --- what is left --------------------------------------------------------------------------- */

/* Processes whose uid is one of this range, seen from outside. */
static int processes_in_range(uint32_t base)
{
    DIR *proc = opendir("/proc");
    const struct dirent *entry;
    int found = 0;

    if (proc == NULL)
        return -errno;
    while ((entry = readdir(proc)) != NULL) {
        char path[300], line[256];
        FILE *file;

        if (entry->d_name[0] < '0' || entry->d_name[0] > '9')
            continue;
        (void)snprintf(path, sizeof(path), "/proc/%s/status", entry->d_name);
        file = fopen(path, "re");
        while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
            unsigned uid;

            if (sscanf(line, "Uid: %u", &uid) == 1)
                found += uid >= base && uid < base + 16;
        }
        if (file != NULL)
            (void)fclose(file);
    }
    (void)closedir(proc);
    return found;
}

static char searched[64];
static int cells_found;
static char cell_paths[64][512];
static int bases_found;

static int look_at(const char *path, const struct stat *what, int type, struct FTW *where)
{
    const char *base = strstr(path, searched);

    (void)what;
    (void)where;
    if (type == FTW_D && base != NULL) {
        if (strstr(base, "/cell-") != NULL)
            (void)snprintf(cell_paths[cells_found++ % 64], sizeof(cell_paths[0]), "%s", path);
        else
            bases_found++;
    }
    return 0;
}

/* Directories of a launcher in every hierarchy of cgroups. */
static int count_cgroups(int launcher)
{
    FILE *mounts = fopen("/proc/self/mountinfo", "re");
    char line[4096];

    (void)snprintf(searched, sizeof(searched), "/oxgen-%d-", launcher);
    cells_found = bases_found = 0;
    if (mounts == NULL)
        return -errno;
    while (fgets(line, sizeof(line), mounts) != NULL) {
        char point[1024];

        if (strstr(line, " - cgroup") != NULL && sscanf(line, "%*s %*s %*s %*s %1023s", point) == 1)
            (void)nftw(point, look_at, 16, FTW_PHYS);
    }
    (void)fclose(mounts);
    return cells_found + bases_found;
}

UNUSED static int cells_of(int launcher)
{
    return count_cgroups(launcher) < 0 ? -1 : cells_found;
}

UNUSED static int warden_of(const struct ox_cell *cell)
{
    char path[64], line[128];
    int pid = -1;
    FILE *file;

    (void)snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", cell->pidfd);
    file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL)
        (void)sscanf(line, "Pid: %d", &pid);
    if (file != NULL)
        (void)fclose(file);
    return pid;
}

/* 1 once condition(argument) is 0. */
#define WITHIN(seconds, expression) \
    __extension__({ \
        int64_t until_ = now_ns() + (int64_t)((seconds) * (double)SECOND); \
        int left_; \
        while ((left_ = (expression)) != 0 && now_ns() < until_) \
            (void)usleep(2000); \
        left_ == 0; \
    })

/* Until its last process is gone. */
UNUSED static int end_cell(const struct ox_launcher *launcher, struct ox_cell *cell)
{
    int r = ox_cell_destroy(launcher, cell);

    return r < 0 ? r : ox_cell_wait_gone(cell, WAIT_MS);
}

/* The launcher buries wardens a moment after they have ended. */
UNUSED static int all_gone(void)
{
    return WITHIN(2, processes_in_range(uid_base()));
}

/* And until the launcher has buried its warden, and decided what goes on to the next one. */
UNUSED static int bury_only_cell(const struct ox_launcher *launcher, struct ox_cell *cell)
{
    int r = end_cell(launcher, cell);

    return r == 0 && all_gone() ? 0 : -1;
}

static int stop(struct ox_launcher *launcher)
{
    int pid = launcher->pid;

    CHECK_EQUAL(ox_launcher_stop(launcher, WAIT_MS), 0);
    CHECK_EQUAL(count_cgroups(pid), 0);
    CHECK_EQUAL(processes_in_range(uid_base()), 0);
    return 0;
}

/* The end of every test: the launcher leaves nothing, whatever happened in its cells. */
UNUSED static int strike(struct stage *stage)
{
    ox_cell_forget(&stage->cell);
    return stop(&stage->launcher);
}

#endif
