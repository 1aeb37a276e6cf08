/* Start a program under a filter that refuses system calls, as an old kernel or a container does:
 * refusing NAME=ERRNO... -- PROGRAM ARGS. The filter looks at numbers only; "clone_new" and
 * "unshare" stand for what makes namespaces. */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NAMESPACES 0x7e020000 /* CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET */

static const struct {
    const char *name;
    int number;
} calls[] = {
    { "pidfd_open", 434 },
    { "close_range", 436 },
    { "clone3", 435 },
    { "openat2", 437 },
    { "execveat", SYS_execveat },
    { "landlock_create_ruleset", 444 },
    { "unshare", SYS_unshare },
    { "mount", SYS_mount },
    { "fsopen", 430 },
    { "open_tree", 428 },
    { "clone_new", SYS_clone },
    { "seccomp", SYS_seccomp },
    { "setns", SYS_setns },
    { "pivot_root", SYS_pivot_root },
    { "landlock_restrict_self", 446 },
    { "chroot", SYS_chroot },
    { "setresuid", SYS_setresuid },
    { "setresgid", SYS_setresgid },
    { "setgroups", SYS_setgroups },
    { "capset", SYS_capset },

    { "setsid", SYS_setsid },
    { "kill", SYS_kill },
};

static struct sock_filter code[128];
static unsigned short used;

static void add(unsigned short what, unsigned char yes, unsigned char no, unsigned value)
{
    code[used++] = (struct sock_filter){ what, yes, no, value };
}

static void refuse(const char *rule)
{
    const char *equals = strchr(rule, '=');
    size_t length = equals == NULL ? 0 : (size_t)(equals - rule);

    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        unsigned answer = SECCOMP_RET_ERRNO | (equals == NULL ? 0u : (unsigned)atoi(equals + 1));

        if (strlen(calls[i].name) != length || strncmp(rule, calls[i].name, length) != 0)
            continue;
        add(BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, nr));
        if (strcmp(calls[i].name, "clone_new") == 0) {
            add(BPF_JMP | BPF_JEQ | BPF_K, 0, 3, (unsigned)calls[i].number);
            add(BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, args[0]));
            add(BPF_JMP | BPF_JSET | BPF_K, 0, 1, NAMESPACES);
        } else {
            add(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, (unsigned)calls[i].number);
        }
        add(BPF_RET | BPF_K, 0, 0, answer);
        return;
    }
    (void)fprintf(stderr, "refusing: %s is not known\n", rule);
    exit(2);
}

int main(int count, char **words)
{
    struct sock_fprog program = { .filter = code };
    int at = 1;

    for (; at < count && strcmp(words[at], "--") != 0; at++)
        refuse(words[at]);
    if (at + 1 >= count)
        return 2;
    add(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW);
    program.len = used;
    /* Without no_new_privs where we may: it would be inherited, and is not what is tried here. */
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0 &&
        (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)) {
        perror("refusing: seccomp");
        return 3;
    }
    (void)execvp(words[at + 1], words + at + 1);
    perror("refusing: exec");
    return 4;
}
