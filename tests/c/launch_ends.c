/* What is left when a run, its cell, its launcher or its host ends before the program would. Needs root. */
#define _GNU_SOURCE 1

#include "launch_frame.h"

static struct stage stage;
static struct ended *const ended = &stage.ended;
static struct ox_outcome *const outcome = &stage.ended.outcome;

/* --- a run ------------------------------------------------------------------------------------ */

static int a_run_that_is_cancelled_ends(void)
{
    struct ox_run_spec spec = plain_run;
    struct ox_run *run;

    spec.confirm = 1;
    memset(&stage, 0, sizeof(stage));
    CHECK_EQUAL(start(&stage.launcher), 0);
    CHECK_EQUAL(make(&stage.launcher, &plain_cell, &stage.cell), 0);
    CHECK_EQUAL(start_run(&stage.cell, &spec, "burn", "3", &run), 0);
    CHECK_EQUAL(ox_run_step(run, WAIT_MS), OX_STARTED);
    CHECK_EQUAL(ox_run_step(run, 200), OX_RUNNING);
    ox_run_cancel(run);
    CHECK_EQUAL(ox_run_step(run, 5000), OX_ENDED);
    ox_run_outcome(run, outcome);
    CHECK_EQUAL(outcome->cause, OX_CAUSE_CANCELLED);
    CHECK_EQUAL(outcome->status, SIGKILL);
    CHECK_EQUAL(outcome->emptied, 1);
    ox_run_free(run);
    CHECK_EQUAL(run_again(&stage, "say", "again"), 0);
    CHECK_TEXT(ended->out, "again\n");
    return strike(&stage);
}

/* Processes that make others as fast as they can, and ignore what can be ignored. */
static int a_fork_bomb_ends_with_its_time(void)
{
    struct ox_cell_spec cell = plain_cell;
    struct ox_run_spec run = plain_run;

    /* Processes that have ended stay charged for a while: with less the kernel's out-of-memory
     * killer may come before the deadline, which is as good an end but not this one. */
    cell.memory_bytes = 1024 * MIB;
    run.wall_ns = SECOND / 2;
    CHECK_EQUAL(run_once(&cell, &run, "bomb", "", &stage), 0);
    CHECK_EQUAL(outcome->cause, OX_CAUSE_TIMEOUT);
    CHECK(ended->took_ns < 10 * SECOND);
    if (outcome->lost)
        CHECK(WITHIN(2, processes_in_range(uid_base())));
    else
        CHECK_EQUAL(processes_in_range(uid_base()), 1);
    return strike(&stage);
}

static int a_program_that_stops_itself_ends_with_its_time(void)
{
    struct ox_run_spec run = plain_run;

    run.wall_ns = SECOND / 2;
    CHECK_EQUAL(run_once(&plain_cell, &run, "stop", "", &stage), 0);
    CHECK_EQUAL(outcome->cause, OX_CAUSE_TIMEOUT);
    CHECK_EQUAL(outcome->status, SIGKILL);
    CHECK_EQUAL(processes_in_range(uid_base()), 1);
    return strike(&stage);
}

/* --- the host dies -------------------------------------------------------------------------- */

struct left {
    int launcher;
    int child;
    uint32_t base;
};

/* A host with a running tree, which never comes back. */
static void be_host(int report, uint32_t base, int with_child)
{
    struct left left = { .base = base };
    struct ox_problem problem;
    struct ox_run *run;

    /* For a test that fails: it and its child must not stay. */
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (start_in_range(base, &stage.launcher, &problem) < 0 ||
        make(&stage.launcher, &plain_cell, &stage.cell) < 0 ||
        start_run(&stage.cell, &plain_run, "burn", "3", &run) < 0 ||
        ox_run_step(run, 1000) != OX_RUNNING)
        _exit(1);
    left.launcher = stage.launcher.pid;
    left.child = with_child ? fork() : 0;
    if (with_child && left.child == 0)
        (void)alarm(60);
    else
        (void)!write(report, &left, sizeof(left));
    for (;;)
        (void)pause();
}

static int is_there(int pid)
{
    (void)waitpid(pid, NULL, WNOHANG);
    return kill(pid, 0) == 0;
}

static int host_is_killed(int with_child)
{
    struct left left;
    int pipes[2];
    pid_t host;

    /* The launcher becomes ours when the host is gone, so that it can be waited for. */
    CHECK_EQUAL(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
    CHECK_EQUAL(pipe2(pipes, O_CLOEXEC), 0);
    host = fork();
    if (host == 0)
        be_host(pipes[1], uid_base(), with_child);
    (void)close(pipes[1]);
    CHECK_EQUAL(read(pipes[0], &left, sizeof(left)), sizeof(left));
    CHECK_EQUAL(processes_in_range(left.base), 5); /* warden, leader, three children */
    CHECK(is_there(left.launcher));

    CHECK_EQUAL(kill(host, SIGKILL), 0);
    CHECK_EQUAL(waitpid(host, NULL, 0), host);
    CHECK(WITHIN(2, is_there(left.launcher) + processes_in_range(left.base)));
    CHECK_EQUAL(count_cgroups(left.launcher), 0);
    if (with_child) {
        CHECK(is_there(left.child));
        CHECK_EQUAL(kill(left.child, SIGKILL), 0);
    }
    return 0;
}

static int nothing_outlives_a_killed_host(void)
{
    return host_is_killed(0);
}

static int nothing_outlives_a_killed_host_whose_child_lives_on(void)
{
    return host_is_killed(1);
}

/* The launcher is killed: no cell outlives it, and the next launcher removes what it could not. */
static int nothing_outlives_a_killed_launcher(void)
{
    struct ox_run *run;
    int first;

    CHECK_EQUAL(run_once(&plain_cell, &plain_run, "say", "first", &stage), 0);
    CHECK_EQUAL(start_run(&stage.cell, &plain_run, "burn", "3", &run), 0);
    CHECK_EQUAL(ox_run_step(run, 500), OX_RUNNING);
    first = stage.launcher.pid;
    CHECK_EQUAL(kill(first, SIGKILL), 0);
    CHECK_EQUAL(ox_run_step(run, 5000), OX_ENDED);
    ox_run_outcome(run, outcome);
    CHECK_EQUAL(outcome->lost, 1);
    ox_run_free(run);
    CHECK(WITHIN(2, processes_in_range(uid_base())));
    ox_cell_forget(&stage.cell);
    CHECK_EQUAL(ox_launcher_stop(&stage.launcher, WAIT_MS), 0);

    CHECK_EQUAL(run_once(&plain_cell, &plain_run, "say", "second", &stage), 0);
    CHECK_TEXT(ended->out, "second\n");
    CHECK_EQUAL(count_cgroups(first), 0);
    return strike(&stage);
}

static const struct check_test tests[] = {
    TEST(a_run_that_is_cancelled_ends),
    TEST(a_fork_bomb_ends_with_its_time),
    TEST(a_program_that_stops_itself_ends_with_its_time),
    TEST(nothing_outlives_a_killed_host),
    TEST(nothing_outlives_a_killed_host_whose_child_lives_on),
    TEST(nothing_outlives_a_killed_launcher),
};

int main(int argc, char **argv)
{
    return check_main(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
