/* Attacks by another identity, or on another process: 0 means that the attempt got what it
 * wanted. */
#include "hostile.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    PIDFD_OPEN_CALL = 434,
    PIDFD_GETFD_CALL = 438,
    PIDFD_SEND_SIGNAL_CALL = 424,
};

static int answer(long result)
{
    return result >= 0 ? 0 : -errno;
}

/* By raw calls: the C library's wrappers may not even ask the kernel. */
static int become_root(void)
{
    if (syscall(SYS_setuid, 0) != 0)
        return -errno;
    return getuid() == 0 && geteuid() == 0 ? 0 : -EPERM;
}

static int become_root_by_saved_id(void)
{
    return answer(syscall(SYS_setresuid, -1, 0, -1));
}

static int become_root_for_files(void)
{
    (void)setfsuid(0);
    return setfsuid((uid_t)-1) == 0 ? 0 : -EPERM;
}

static int become_root_group(void)
{
    return answer(syscall(SYS_setgid, 0));
}

static int join_group(void)
{
    gid_t root = 0;

    return answer(syscall(SYS_setgroups, 1, &root));
}

static int leave_groups(void)
{
    return answer(syscall(SYS_setgroups, 0, NULL));
}

static int take_capability(void)
{
    struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct sets[2] = { { 0 } };

    sets[0].effective = sets[0].permitted = 1u << CAP_CHOWN;
    return answer(syscall(SYS_capset, &header, sets));
}

static int take_ambient_capability(void)
{
    struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct sets[2] = { { 0 } };

    (void)syscall(SYS_capget, &header, sets);
    sets[0].inheritable |= 1u << CAP_CHOWN;
    (void)syscall(SYS_capset, &header, sets);
    return answer(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0));
}

static int trace_process_1(void)
{
    return answer(ptrace(PTRACE_SEIZE, 1, NULL, NULL));
}

static int trace_parent(void)
{
    return answer(ptrace(PTRACE_SEIZE, getppid(), NULL, NULL));
}

static int read_memory_of_process_1(void)
{
    char byte = 0;
    struct iovec here = { &byte, 1 }, there = { (void *)own_path(), 1 };
    ssize_t n = process_vm_readv(1, &here, 1, &there, 1, 0);

    /* EFAULT: allowed, but nothing is mapped there in that process. */
    return n >= 0 || errno == EFAULT ? 0 : -errno;
}

static int take_descriptor_of_process_1(void)
{
    int other = (int)syscall(PIDFD_OPEN_CALL, 1, 0);
    long taken = other < 0 ? -1 : syscall(PIDFD_GETFD_CALL, other, 0, 0);

    /* EBADF: allowed, but that process has no such descriptor. */
    return taken >= 0 || errno == EBADF ? 0 : -errno;
}

static int signal_process_1(void)
{
    return answer(kill(1, 0));
}

static int stop_process_1(void)
{
    return answer(kill(1, SIGSTOP));
}

static int kill_process_1(void)
{
    return answer(kill(1, SIGKILL));
}

static int kill_process_1_by_pidfd(void)
{
    int other = (int)syscall(PIDFD_OPEN_CALL, 1, 0);

    return other < 0 ? -errno : answer(syscall(PIDFD_SEND_SIGNAL_CALL, other, SIGKILL, NULL, 0));
}

static int limit_process_1(void)
{
    struct rlimit limit = { 4096, 4096 };

    return answer(prlimit(1, RLIMIT_NOFILE, &limit, NULL));
}

static int pin_process_1(void)
{
    cpu_set_t cpus;

    CPU_ZERO(&cpus);
    CPU_SET(0, &cpus);
    return answer(sched_setaffinity(1, sizeof cpus, &cpus));
}

static int slow_process_1(void)
{
    return answer(setpriority(PRIO_PROCESS, 1, 19));
}

static int idle_process_1(void)
{
    struct sched_param parameters = { 0 };

    return answer(sched_setscheduler(1, SCHED_IDLE, &parameters));
}

static int io_priority_of_process_1(void)
{
    return answer(syscall(SYS_ioprio_set, 1, 1, 3 << 13));
}

static int run_faster(void)
{
    return answer(setpriority(PRIO_PROCESS, 0, -5));
}

static int run_in_real_time(void)
{
    struct sched_param parameters = { 1 };
    int r = answer(sched_setscheduler(0, SCHED_FIFO, &parameters));

    if (r == 0) {
        parameters.sched_priority = 0;
        (void)sched_setscheduler(0, SCHED_OTHER, &parameters);
    }
    return r;
}

static int put_words_into_terminal(void)
{
    int terminal = open("/dev/tty", O_RDWR | O_CLOEXEC);

    if (terminal >= 0)
        return answer(ioctl(terminal, TIOCSTI, "x"));
    for (int fd = 0; fd < 3; fd++)
        if (isatty(fd) == 1)
            return answer(ioctl(fd, TIOCSTI, "x"));
    return -ENOTTY;
}

/* With a bit above the lowest 32 set: the kernel cuts it off, a filter that compares 64 bits does not
 * (CVE-2019-10063). */
static int put_words_into_terminal_by_high_bit(void)
{
    int terminal = open("/dev/tty", O_RDWR | O_CLOEXEC);

    if (terminal < 0)
        return -ENOTTY;
    return answer(syscall(SYS_ioctl, terminal, (unsigned long)TIOCSTI | 1UL << 32, "x"));
}

const struct attack identity_attacks[] = {
    { "become_root", become_root },
    { "become_root_by_saved_id", become_root_by_saved_id },
    { "become_root_for_files", become_root_for_files },
    { "become_root_group", become_root_group },
    { "join_group", join_group },
    { "leave_groups", leave_groups },
    { "take_capability", take_capability },
    { "take_ambient_capability", take_ambient_capability },
    { "trace_process_1", trace_process_1 },
    { "trace_parent", trace_parent },
    { "read_memory_of_process_1", read_memory_of_process_1 },
    { "take_descriptor_of_process_1", take_descriptor_of_process_1 },
    { "signal_process_1", signal_process_1 },
    { "stop_process_1", stop_process_1 },
    { "kill_process_1", kill_process_1 },
    { "kill_process_1_by_pidfd", kill_process_1_by_pidfd },
    { "limit_process_1", limit_process_1 },
    { "pin_process_1", pin_process_1 },
    { "slow_process_1", slow_process_1 },
    { "idle_process_1", idle_process_1 },
    { "io_priority_of_process_1", io_priority_of_process_1 },
    { "run_faster", run_faster },
    { "run_in_real_time", run_in_real_time },
    { "put_words_into_terminal", put_words_into_terminal },
    { "put_words_into_terminal_by_high_bit", put_words_into_terminal_by_high_bit },
    { NULL, NULL },
};
