/* A uid as the boundary of a cell, where there is no pid namespace. */
#include "plain_uid.h"

#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "missing.h"

int ox_uid_is_vacant(uint32_t uid)
{
    /* It goes through all processes and asks for no right (getpriority(2)). */
    return syscall(SYS_getpriority, PRIO_USER, uid) < 0 && errno == ESRCH;
}

struct killing {
    uint32_t killer;
    uint32_t victim;
    int result;
};

/* In a child that shares our memory: raw calls, as those of the C library would change the ids of our
 * threads. */
static int kill_as(void *argument)
{
    struct killing *task = argument;
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3, .pid = 0 };
    struct __user_cap_data_struct none[2];

    memset(none, 0, sizeof(none));
    task->result = -EPERM;
    /* Each step is checked: with the rights of root the kill would reach everybody. */
    if (syscall(SYS_setgroups, 0, NULL) == 0 &&
        syscall(SYS_setresgid, task->killer, task->killer, task->killer) == 0 &&
        syscall(SYS_setresuid, task->killer, task->victim, task->killer) == 0 &&
        syscall(SYS_capset, &header, none) == 0 && geteuid() == task->victim &&
        getuid() == task->killer)
        task->result = kill(-1, SIGKILL) < 0 && errno != ESRCH ? -errno : 0;
    _exit(0);
}

int ox_uid_kill(uint32_t killer, uint32_t victim)
{
    static char stack[16 * 1024] __attribute__((aligned(64)));
    struct killing task = { .killer = killer, .victim = victim, .result = -EIO };
    pid_t pid;

    if (killer == 0 || victim == 0 || killer == victim)
        return -EINVAL;
    pid = clone(kill_as, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD, &task);
    if (pid < 0)
        return -errno;
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    return task.result;
}

int ox_uid_kill_from(uint32_t rest, uint32_t victim)
{
    int r;

    if (rest == 0 || victim == 0 || getuid() == victim || getuid() == 0)
        return -EINVAL;
    /* Real and saved uid stay ours, so that nobody of victim may signal us meanwhile. */
    if (syscall(SYS_setresuid, -1, victim, -1) < 0)
        return -errno;
    r = kill(-1, SIGKILL) < 0 && errno != ESRCH ? -errno : 0;
    if (syscall(SYS_setresuid, -1, rest, -1) < 0)
        return -errno;
    return r;
}
