/* Who a program in a cell is and what it is refused, beside what the same program may do outside. Needs
 * root. */
#define _GNU_SOURCE 1

#include "launch_frame.h"

#include <sched.h>
#include <sys/mount.h>

static struct stage stage;
static struct ended *const ended = &stage.ended;
static struct ox_outcome *const outcome = &stage.ended.outcome;

/* --- who the program is --------------------------------------------------------------------- */

static int has_line(const char *name, const char *value)
{
    char line[64];

    (void)snprintf(line, sizeof(line), "\n%s:\t%s\n", name, value);
    if (strstr(ended->out, line) == NULL) {
        fprintf(stderr, "no line %s in%s\n", line, ended->out);
        return 0;
    }
    return 1;
}

static int the_program_is_nobody_and_filtered(void)
{
    static const char *const sets[] = { "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb" };
    struct ox_cell_spec cell = plain_cell;
    const char *own;
    int pids[3];

    cell.features = OX_FEATURE_PROC | OX_FEATURE_DEV | OX_FEATURE_ETC;
    CHECK_EQUAL(run_once(&cell, &plain_run, "status", "", &stage), 0);
    CHECK_CLEAN(outcome);
    CHECK(has_line("NoNewPrivs", "1"));
    CHECK(has_line("Seccomp", "2"));
    CHECK(has_line("Uid", "65534\t65534\t65534\t65534"));
    CHECK(has_line("Gid", "65534\t65534\t65534\t65534"));
    CHECK(has_line("Groups", " "));
    for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++)
        CHECK(has_line(sets[i], "0000000000000000"));
    /* One number: /proc is that of its own pid namespace, where it is not process 1. */
    own = strstr(ended->out, "\nNSpid:");
    CHECK(own != NULL);
    CHECK_EQUAL(sscanf(own, "\nNSpid: %d %d", &pids[0], &pids[1]), 1);
    CHECK(pids[0] > 1 && pids[0] < 10);
    return strike(&stage);
}

static int mount_ptrace_chroot_unshare_are_refused(void)
{
    static const int features[] = { 0, OX_FEATURE_PROC | OX_FEATURE_DEV | OX_FEATURE_ETC };
    char expected[64];

    for (int i = 0; i < 2; i++) {
        struct ox_cell_spec cell = plain_cell;

        cell.features = features[i];
        CHECK_EQUAL(run_once(&cell, &plain_run, "escape", "", &stage), 0);
        CHECK_CLEAN(outcome);
        (void)snprintf(expected, sizeof(expected), "mount=%d ptrace=%d chroot=%d unshare=%d\n",
                       EPERM, EPERM, EPERM, EPERM);
        CHECK_TEXT(ended->out, expected);
        CHECK_EQUAL(run_again(&stage, "new-user", ""), 0);
        (void)snprintf(expected, sizeof(expected), "unshare=%d\n", EPERM);
        CHECK_TEXT(ended->out, expected);
        CHECK_EQUAL(strike(&stage), 0);
    }
    return 0;
}

/* The probe outside of any cell, in namespaces of its own that end with it. */
static void run_free(const char *command, int output)
{
    char path[PATH_MAX];
    pid_t pid;

    if (beside("probe", path) < 0 || unshare(CLONE_NEWNS | CLONE_NEWPID) < 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || dup2(output, 1) < 0)
        _exit(1);
    pid = fork(); /* process 1 of the namespace */
    if (pid == 0) {
        pid = fork();
        if (pid == 0) {
            (void)execl(path, "probe", command, "", (char *)NULL);
            _exit(1);
        }
        _exit(waitpid(pid, NULL, 0) != pid);
    }
    _exit(waitpid(pid, NULL, 0) != pid);
}

static int outside_of_a_cell_they_are_not(void)
{
    static const char *const commands[] = { "escape", "new-user" };
    static const char *const expected[] = { "mount=0 ptrace=0 chroot=0 unshare=0\n",
                                            "unshare=0\n" };

    for (int i = 0; i < 2; i++) {
        char text[64] = "";
        int pipes[2], status;
        pid_t pid;

        CHECK_EQUAL(pipe2(pipes, O_CLOEXEC), 0);
        pid = fork();
        if (pid == 0)
            run_free(commands[i], pipes[1]);
        (void)close(pipes[1]);
        CHECK(read(pipes[0], text, sizeof(text) - 1) > 0);
        CHECK_EQUAL(waitpid(pid, &status, 0), pid);
        CHECK_EQUAL(status, 0);
        CHECK_TEXT(text, expected[i]);
        (void)close(pipes[0]);
    }
    return 0;
}

static const struct check_test tests[] = {
    TEST(the_program_is_nobody_and_filtered),
    TEST(mount_ptrace_chroot_unshare_are_refused),
    TEST(outside_of_a_cell_they_are_not),
};

int main(int argc, char **argv)
{
    return check_main(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
