/* What a confined process sees of its own confinement, as one JSON object on stdout. With the word
 * "hold" it then stays until its stdin ends, so that it can be looked at from outside. */
#define _GNU_SOURCE
#include <linux/capability.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static void capabilities(void)
{
    struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct sets[2];

    /* Where they cannot be read, none is ruled out. */
    if (syscall(SYS_capget, &header, sets) != 0)
        memset(sets, 0xff, sizeof(sets));
    (void)printf("\"effective\": %llu, \"permitted\": %llu, ",
                 (unsigned long long)sets[1].effective << 32 | sets[0].effective,
                 (unsigned long long)sets[1].permitted << 32 | sets[0].permitted);
}

/* By number, as a list of them would need a netlink socket, which cells refuse. */
static void interfaces(void)
{
    const char *between = "";
    char name[IF_NAMESIZE];
    int any = socket(AF_INET, SOCK_DGRAM, 0);

    /* Not "none" where they cannot be named: sockets may be refused altogether. */
    if (any < 0) {
        (void)printf("\"interfaces\": null");
        return;
    }
    (void)close(any);
    (void)printf("\"interfaces\": [");
    for (unsigned index = 1; index < 256; index++) {
        if (if_indextoname(index, name) == NULL)
            continue;
        (void)printf("%s\"%s\"", between, name);
        between = ", ";
    }
    (void)printf("]");
}

int main(int argc, char **argv)
{
    uid_t real = 0, effective = 0, saved = 0;
    struct rlimit files = { 0, 0 };
    char byte;

    (void)getresuid(&real, &effective, &saved);
    (void)getrlimit(RLIMIT_NOFILE, &files);
    (void)printf("{\"seccomp\": %d, \"no_new_privs\": %d, \"uids\": [%u, %u, %u], \"pid\": %d, ",
                 prctl(PR_GET_SECCOMP, 0, 0, 0, 0), prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), real,
                 effective, saved, (int)getpid());
    (void)printf("\"groups\": %d, \"open_files\": %llu, ", getgroups(0, NULL),
                 (unsigned long long)files.rlim_cur);
    capabilities();
    interfaces();
    (void)printf("}\n");
    (void)fflush(stdout);
    if (argc > 1 && strcmp(argv[1], "hold") == 0)
        while (read(STDIN_FILENO, &byte, 1) > 0)
            continue;
    return 0;
}
