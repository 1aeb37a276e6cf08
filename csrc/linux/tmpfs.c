/* A tmpfs that is attached nowhere yet. */
#include "../core.h"

#include "tmpfs.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../posix/fd.h"
#include "missing.h"

int ox_tmpfs_make(const char *size, int *ret_mount)
{
    int context, mounted, r = 0;

    context = (int)syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC);
    if (context < 0)
        return -errno;
    if (syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "mode", "0755", 0) < 0 ||
        syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "size", size, 0) < 0 ||
        syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0) {
        r = -errno;
        goto out;
    }
    mounted = (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, 0);
    if (mounted < 0) {
        r = -errno;
        goto out;
    }
    *ret_mount = mounted;
out:
    ox_close(&context);
    return r;
}
