/* What a launched process does between clone and exec. Async-signal-safe calls only; ids by raw
 * system calls, because libc's wrappers signal every thread of the process, and here that
 * process is the parent. */
#include "steps.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "system.h"

static int apply_session(const struct ox_step_plan *plan)
{
    pid_t session = setsid();

    (void)plan;
    /* 0 is no session: a filter around us has answered. */
    return session > 0 ? 0 : session == 0 ? -EBADE : -errno;
}

static int apply_streams(const struct ox_step_plan *plan)
{
    /* The sources lie above 3: the warden keeps 0 to 3 occupied, so no dup2 overwrites a later
     * source. */
    for (int i = 0; i < 4; i++) {
        if (plan->fds[i] >= 0 && dup2(plan->fds[i], i) < 0)
            return -errno;
    }
    return 0;
}

static int apply_rlimits(const struct ox_step_plan *plan)
{
    for (uint32_t i = 0; i < plan->rlimits_count; i++) {
        const struct ox_wire_rlimit *wanted = &plan->rlimits[i];
        struct rlimit value = { .rlim_cur = wanted->soft, .rlim_max = wanted->hard };

        if (setrlimit((__rlimit_resource_t)wanted->resource, &value) < 0)
            return -errno;
    }
    return 0;
}

static int apply_chroot(const struct ox_step_plan *plan)
{
    if (plan->root == NULL)
        return 0;
    if (chroot(plan->root) < 0)
        return -errno;
    return chdir("/") < 0 ? -errno : 0;
}

static int apply_gid(const struct ox_step_plan *plan)
{
    if (plan->own_ids)
        return 0;
    return syscall(SYS_setresgid, plan->gid, plan->gid, plan->gid) < 0 ? -errno : 0;
}

static int apply_uid(const struct ox_step_plan *plan)
{
    if (plan->own_ids)
        return 0;
    return syscall(SYS_setresuid, plan->uid, plan->uid, plan->uid) < 0 ? -errno : 0;
}

static int apply_workdir(const struct ox_step_plan *plan)
{
    return chdir(plan->cwd) < 0 ? -errno : 0;
}

static int apply_wall(const struct ox_step_plan *plan)
{
    return plan->wall < 0 ? 0 : ox_give_up(plan->wall);
}

static int apply_descriptors(const struct ox_step_plan *plan)
{
    unsigned first = plan->fds[3] >= 0 ? 4 : 3;

    return ox_close_from(first);
}

static int apply_signals(const struct ox_step_plan *plan)
{
    sigset_t none;

    (void)plan;
    (void)sigemptyset(&none);
    return sigprocmask(SIG_SETMASK, &none, NULL) < 0 ? -errno : 0;
}

static int apply_policy(const struct ox_step_plan *plan)
{
    (void)plan;
    return ox_schedule_as_usual();
}

static int apply_filter(const struct ox_step_plan *plan)
{
    return plan->filter == NULL ? 0 : ox_filter_install(plan->filter);
}

static int apply_exec(const struct ox_step_plan *plan)
{
    if (plan->filter != NULL)
        return ox_filter_exec(plan->filter, plan->path, plan->argv, plan->envp);
    (void)execve(plan->path, plan->argv, plan->envp);
    return -errno;
}

struct step {
    int stage;
    int (*apply)(const struct ox_step_plan *plan);
};

static const struct step steps[] = {
    { OX_STAGE_SESSION, apply_session },
    { OX_STAGE_STREAMS, apply_streams },
    /* Before the ids: the process limit is then checked against the plugin's own uid from its
     * first process on. */
    { OX_STAGE_RLIMITS, apply_rlimits },
    { OX_STAGE_CHROOT, apply_chroot },
    /* gid before uid: setresuid() takes away the right to change it. The warden has no
     * supplementary groups. */
    { OX_STAGE_GID, apply_gid },
    { OX_STAGE_UID, apply_uid },
    /* As the plugin: a directory that it may not enter is refused here, not granted by our
     * rights. */
    { OX_STAGE_WORKDIR, apply_workdir },
    /* While its descriptor is open. */
    { OX_STAGE_LANDLOCK, apply_wall },
    { OX_STAGE_DESCRIPTORS, apply_descriptors },
    { OX_STAGE_SIGNALS, apply_signals },
    { OX_STAGE_POLICY, apply_policy },
    /* The last, as it may refuse every call but the one that follows. */
    { OX_STAGE_FILTER, apply_filter },
    { OX_STAGE_EXEC, apply_exec },
};

#define STEPS (sizeof(steps) / sizeof(steps[0]))

void ox_steps_run(const struct ox_step_plan *plan)
{
    for (size_t i = 0; i < STEPS; i++) {
        int r;

        /* Noted before, not after: a child that is killed here leaves the stage behind. */
        plan->report->stage = steps[i].stage;
        r = steps[i].apply(plan);
        if (r < 0) {
            plan->report->errnum = -r;
            break;
        }
    }
    _exit(127);
}
