/* The /etc of a cell. */
#include "etc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "../posix/fd.h"

int ox_etc_fill(int directory, uint32_t owner, int host_network)
{
    char users[160], groups[64];
    const struct {
        const char *path;
        const char *text; /* NULL: it is mounted */
    } files[] = {
        { "etc/passwd", users },
        { "etc/group", groups },
        { "etc/hosts", host_network ? NULL : "127.0.0.1 localhost\n::1 localhost\n" },
        { "etc/nsswitch.conf", host_network ? "passwd: files\ngroup: files\nhosts: files dns\n"
                                            : "passwd: files\ngroup: files\nhosts: files\n" },
    };

    (void)snprintf(users, sizeof(users),
                   "root:x:0:0:root:/:/bin/false\nnobody:x:%u:%u:nobody:/home/plugin:/bin/false\n",
                   owner, owner);
    (void)snprintf(groups, sizeof(groups), "root:x:0:\nnogroup:x:%u:\n", owner);
    if (mkdirat(directory, "etc", 0755) < 0 && errno != EEXIST)
        return -errno;
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        int r = files[i].text == NULL
                    ? 0
                    : ox_write_text(directory, files[i].path, O_CREAT | O_EXCL, files[i].text);

        if (r < 0)
            return r;
    }
    return 0;
}
