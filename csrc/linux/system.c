/* What the portable part asks of Linux. */
#include "../core.h"
#include "../posix/system.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "landlock.h"
#include "missing.h"

int ox_kill(int handle)
{
    if (syscall(SYS_pidfd_send_signal, handle, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
        return -errno;
    return 0;
}

int ox_close_from(unsigned first)
{
    return syscall(SYS_close_range, first, ~0U, 0) < 0 ? -errno : 0;
}

int ox_memory_file(const char *name, int *ret_fd)
{
    const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    int fd = memfd_create(name, flags | MFD_NOEXEC_SEAL);

    /* A kernel that does not know it; one that does may insist on it (vm.memfd_noexec). */
    if (fd < 0 && errno == EINVAL)
        fd = memfd_create(name, flags);
    if (fd < 0)
        return -errno;
    *ret_fd = fd;
    return 0;
}

int ox_give_up(int handle)
{
    return ox_wall_raise(handle);
}

int ox_schedule_as_usual(void)
{
    const struct sched_param none = { .sched_priority = 0 };

    return sched_setscheduler(0, SCHED_OTHER, &none) < 0 ? -errno : 0;
}

int ox_processor_now(void)
{
    return sched_getcpu();
}

long ox_preemptions(void)
{
    struct rusage used;

    return getrusage(RUSAGE_THREAD, &used) < 0 ? -1 : used.ru_nivcsw;
}
