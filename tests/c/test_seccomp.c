/* The filter at work: loaded into a child that makes real calls. test_seccomp --exec PROGRAM ARGS runs a program under it. */
#define _GNU_SOURCE 1

#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "../../csrc/linux/seccomp.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static int load(void)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -errno;
    return ox_seccomp_load();
}

/* The wait status of a child that loads the filter (or not) and calls. */
static int in_child(int filtered, int (*call)(void))
{
    int status = -1;
    pid_t pid = fork();

    if (pid == 0) {
        (void)alarm(20);
        if (filtered && load() != 0)
            _exit(99);
        _exit(call());
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return -1;
    return status;
}

static int exits_with(int status, int code)
{
    return WIFEXITED(status) && WEXITSTATUS(status) == code;
}

struct call {
    const char *name;
    long number;
    long args[6];
    int refusal; /* the filter's errno */
};

/* Arguments are such that the kernel itself finds fault with them, and with another errno, or has
 * nothing to do: so the same calls are harmless with the filter off. */
#define BAD ((long)1) /* a pointer to nowhere */
static const struct call refused[] = {
    { "ptrace", SYS_ptrace, { 99999, 0, 0, 0 }, EPERM },
    { "unshare", SYS_unshare, { 0 }, EPERM },
    { "setns", SYS_setns, { -1, 0 }, EPERM },
    { "mount", SYS_mount, { 0, 0, 0, 0, 0 }, EPERM },
    { "umount2", SYS_umount2, { BAD, 0 }, EPERM },
    { "pivot_root", SYS_pivot_root, { BAD, BAD }, EPERM },
    { "open_tree", 428, { -1, BAD, 0 }, EPERM },
    { "move_mount", 429, { -1, BAD, -1, BAD, 0 }, EPERM },
    { "fsopen", 430, { BAD, 0 }, EPERM },
    { "fsconfig", 431, { -1, 0, BAD, BAD, 0 }, EPERM },
    { "fsmount", 432, { -1, 0, 0 }, EPERM },
    { "fspick", 433, { -1, BAD, 0 }, EPERM },
    { "mount_setattr", 442, { -1, BAD, 0, BAD, 0 }, EPERM },
    { "name_to_handle_at", SYS_name_to_handle_at, { -1, BAD, BAD, BAD, 0 }, EPERM },
    { "process_vm_readv", SYS_process_vm_readv, { 0, 0, 0, 0, 0, 1 }, EPERM },
    { "process_vm_writev", SYS_process_vm_writev, { 0, 0, 0, 0, 0, 1 }, EPERM },
    { "kcmp", SYS_kcmp, { 0, 0, 99, 0, 0 }, EPERM },
    { "pidfd_getfd", 438, { -1, 0, 0 }, EPERM },
    { "process_madvise", 440, { -1, BAD, 0, 0, 0 }, EPERM },
    { "bpf", SYS_bpf, { -1, 0, 0 }, EPERM },
    { "perf_event_open", SYS_perf_event_open, { BAD, 0, -1, -1, 0 }, EPERM },
    { "userfaultfd", SYS_userfaultfd, { 0xffff }, EPERM },
    { "keyctl", SYS_keyctl, { 9999, 0, 0, 0, 0 }, EPERM },
    { "add_key", SYS_add_key, { BAD, BAD, BAD, 0, 0 }, EPERM },
    { "request_key", SYS_request_key, { BAD, BAD, BAD, 0 }, EPERM },
    { "kexec_load", SYS_kexec_load, { 0, 1 << 20, BAD, 0 }, EPERM },
    { "delete_module", SYS_delete_module, { BAD, 0 }, EPERM },
    { "swapon", SYS_swapon, { BAD, 0 }, EPERM },
    { "swapoff", SYS_swapoff, { BAD }, EPERM },
    { "reboot", SYS_reboot, { 0, 0, 0, 0 }, EPERM },
    { "quotactl", SYS_quotactl, { -1, BAD, 0, 0 }, EPERM },
    { "acct", SYS_acct, { BAD }, EPERM },
    { "syslog", SYS_syslog, { 99, 0, 0 }, EPERM },
    { "sethostname", SYS_sethostname, { BAD, -1 }, EPERM },
    { "settimeofday", SYS_settimeofday, { BAD, 0 }, EPERM },
    { "adjtimex", SYS_adjtimex, { BAD }, EPERM },
    { "clock_settime", SYS_clock_settime, { 0, BAD }, EPERM },
    { "shmget", SYS_shmget, { 0, 0, 0 }, EPERM },
    { "semget", SYS_semget, { 0, -1, 0 }, EPERM },
    { "msgget", SYS_msgget, { 0x6f786730, 0 }, EPERM },
    { "mq_open", SYS_mq_open, { BAD, 0, 0, 0 }, EPERM },
    { "fanotify_init", SYS_fanotify_init, { -1, 0 }, EPERM },
    { "vmsplice", SYS_vmsplice, { -1, BAD, 0, 0 }, EPERM },
    { "clone(NEWUSER)", SYS_clone, { 0x10000000 | 0x10000, 0, 0, 0, 0 }, EPERM },
    { "socket(VSOCK)", SYS_socket, { 40, 0x7fffff00, 0 }, EAFNOSUPPORT },
    { "socket(PACKET)", SYS_socket, { 17, 0x7fffff00, 0 }, EAFNOSUPPORT },
    { "socket(NETLINK, KOBJECT_UEVENT)", SYS_socket, { 16, 3, 15 }, EAFNOSUPPORT },
    { "socket(NETLINK, ROUTE)", SYS_socket, { 16, 3, 0 }, EAFNOSUPPORT },
    { "socket(NETLINK, ROUTE, high half)", SYS_socket, { 0x100000010, 3, 0 }, EAFNOSUPPORT },
    { "socket(INET, SEQPACKET)", SYS_socket, { 2, 5, 0 }, EPERM },
    /* Bits of the type that the kernel calls invalid before it looks for the protocol. */
    { "socket(INET, SCTP)", SYS_socket, { 2, 0x7fffff01, 132 }, EPROTONOSUPPORT },
    { "socket(INET, SMC)", SYS_socket, { 2, 0x7fffff01, 256 }, EPROTONOSUPPORT },
    { "socket(INET6, MPTCP)", SYS_socket, { 10, 0x7fffff01, 262 }, EPROTONOSUPPORT },
    { "socket(INET6, MPTCP, high half)",
      SYS_socket,
      { 10, 0x7fffff01, 0x100000106 },
      EPROTONOSUPPORT },
    { "socket(INET, UDP as a stream)", SYS_socket, { 2, 0x7fffff01, 17 }, EPROTONOSUPPORT },
    { "socket(INET, UDP-Lite)", SYS_socket, { 2, 0x7fffff02, 136 }, EPROTONOSUPPORT },
    { "socket(INET, ICMP)", SYS_socket, { 2, 0x7fffff02, 1 }, EPROTONOSUPPORT },
    { "socket(UNIX, 17)", SYS_socket, { 1, 0x7fffff00, 17 }, EPROTONOSUPPORT },
    { "socketpair(UNIX, 17)", SYS_socketpair, { 1, 0x7fffff00, 17, BAD }, EPROTONOSUPPORT },
    { "ioctl(TIOCSTI)", SYS_ioctl, { -1, 0x5412, 0 }, EPERM },
    { "ioctl(TIOCSTI, high half)", SYS_ioctl, { -1, 0x100005412, 0 }, EPERM },
    { "ioctl(TIOCLINUX)", SYS_ioctl, { -1, 0x541c, 0 }, EPERM },
    { "ioctl(FS_IOC_SETFLAGS)", SYS_ioctl, { -1, 0x40086602, BAD }, EPERM },
    { "ioctl(FS_IOC32_SETFLAGS)", SYS_ioctl, { -1, 0x40046602, BAD }, EPERM },
    { "ioctl(FS_IOC_FSSETXATTR)", SYS_ioctl, { -1, 0x401c5820, BAD }, EPERM },
    { "ioctl(FS_IOC_FSSETXATTR, high half)", SYS_ioctl, { -1, 0x1401c5820, BAD }, EPERM },
    { "ioctl(FS_IOC_SETVERSION)", SYS_ioctl, { -1, 0x40087602, BAD }, EPERM },
    { "ioctl(FS_IOC_ENABLE_VERITY)", SYS_ioctl, { -1, 0x40806685, BAD }, EPERM },
    { "ioctl(BTRFS_IOC_SUBVOL_CREATE)", SYS_ioctl, { -1, 0x5000940e, BAD }, EPERM },
    { "setsockopt(SO_ATTACH_FILTER)", SYS_setsockopt, { -1, 1, 26, BAD, 16 }, EPERM },
    { "setsockopt(SO_ATTACH_FILTER, high half)",
      SYS_setsockopt,
      { -1, 0x100000001, 0x10000001a, BAD, 16 },
      EPERM },
    { "setsockopt(SO_ATTACH_REUSEPORT_CBPF)", SYS_setsockopt, { -1, 1, 51, BAD, 16 }, EPERM },
    { "fcntl(F_SETLEASE)", SYS_fcntl, { -1, 1024, 0 }, EPERM },
    { "fcntl(F_SETLEASE, high half)", SYS_fcntl, { -1, 0x100000400, 0 }, EPERM },
    { "fcntl(F_SETDELEG)", SYS_fcntl, { -1, 1040, BAD }, EPERM },
    { "fcntl(F_NOTIFY)", SYS_fcntl, { -1, 1026, 1 }, EPERM },
    { "prctl(SET_MM)", SYS_prctl, { 35, 9999, 0, 0, 1 }, EPERM },
    { "personality(ADDR_NO_RANDOMIZE)", SYS_personality, { 0x0040000 }, EPERM },
    { "mknodat(character device)", SYS_mknodat, { -1, BAD, S_IFCHR | 0600, 0 }, EPERM },
    { "prlimit64(1)", SYS_prlimit64, { 1, 999, 0, 0 }, EPERM },
    { "sched_setaffinity(1)", SYS_sched_setaffinity, { 1, 8, BAD }, EPERM },
    { "setpriority(PRIO_USER)", SYS_setpriority, { 99, 0, 0 }, EPERM },
    { "clone3", 435, { 0, 0 }, ENOSYS },
    { "io_uring_setup", 425, { 0, 0 }, ENOSYS },
    { "io_setup", SYS_io_setup, { 0, BAD }, ENOSYS },
};

static const struct call *current;

/* The errno of the current call, 0 for success. */
static int make_call(void)
{
    const long *a = current->args;
    long r = syscall(current->number, a[0], a[1], a[2], a[3], a[4], a[5]);

    return r < 0 ? errno : 0;
}

static int test_real_calls_are_refused(void)
{
    for (size_t i = 0; i < LENGTH(refused); i++) {
        current = &refused[i];
        if (!exits_with(in_child(1, make_call), current->refusal))
            fprintf(stderr, "%s was not refused\n", current->name);
        CHECK(exits_with(in_child(1, make_call), current->refusal));
    }
    return 0;
}

/* The control: without the filter the same calls end otherwise, or the test above proves nothing. A
 * kernel built without a call answers ENOSYS by itself. */
static int test_refusals_are_the_filters(void)
{
    size_t proved = 0;

    if (geteuid() != 0)
        return SKIPPED;
    for (size_t i = 0; i < LENGTH(refused); i++) {
        int status;

        current = &refused[i];
        status = in_child(0, make_call);
        if (exits_with(status, current->refusal))
            fprintf(stderr, "%s: the kernel itself answers with errno %d\n", current->name,
                    current->refusal);
        else
            proved++;
    }
    fprintf(stderr, "%zu of %zu proved\n", proved, LENGTH(refused));
    CHECK(proved + 2 >= LENGTH(refused));
    return 0;
}

static const struct call allowed[] = {
    { "getpid", SYS_getpid, { 0 }, 0 },
    { "socket(UNIX)", SYS_socket, { AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0 }, 0 },
    { "socket(INET)", SYS_socket, { AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0 }, 0 },
    { "socket(UNIX, PF_UNIX)", SYS_socket, { AF_UNIX, SOCK_DGRAM, 1 }, 0 },
    { "socket(INET, TCP)", SYS_socket, { AF_INET, SOCK_STREAM, 6 }, 0 },
    { "socket(INET, TCP, high half)", SYS_socket, { AF_INET, SOCK_STREAM, 0x100000006 }, 0 },
    { "socket(INET, UDP)", SYS_socket, { AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 17 }, 0 },
    { "socket(INET, DGRAM)", SYS_socket, { AF_INET, SOCK_DGRAM, 0 }, 0 },
    { "prctl(GET_NO_NEW_PRIVS)", SYS_prctl, { PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0 }, 0 },
    { "personality(query)", SYS_personality, { 0xffffffff }, 0 },
    { "setpriority(0)", SYS_setpriority, { PRIO_PROCESS, 0, 5 }, 0 },
    { "ioprio_set(0)", SYS_ioprio_set, { 1, 0, (2 << 13) | 4 }, 0 },
    { "chroot", SYS_chroot, { (long)"/" }, 0 },
    { "setgroups", SYS_setgroups, { 0, 0 }, 0 },
    { "setresgid", SYS_setresgid, { 65534, 65534, 65534 }, 0 },
    { "setresuid", SYS_setresuid, { 65534, 65534, 65534 }, 0 },
    { "setsid", SYS_setsid, { 0 }, 0 },
    { "umask", SYS_umask, { 022 }, 0 },
    { "kill(0)", SYS_kill, { 0, 0 }, 0 },
    { "fcntl(F_GETFD)", SYS_fcntl, { 1, F_GETFD, 0 }, 0 },
    { "fcntl(F_SETOWN)", SYS_fcntl, { 1, F_SETOWN, 0 }, 0 },
    { "ioctl(FIOCLEX)", SYS_ioctl, { 1, 0x5451, 0 }, 0 },
};

static int test_their_allowed_twins_work(void)
{
    if (geteuid() != 0)
        return SKIPPED;
    for (size_t i = 0; i < LENGTH(allowed); i++) {
        int status;

        current = &allowed[i];
        status = in_child(1, make_call);
        if (!exits_with(status, 0))
            fprintf(stderr, "%s: wait status %#x\n", current->name, status);
        CHECK(exits_with(status, 0));
    }
    return 0;
}

static int call_i386(void)
{
#ifdef __x86_64__
    long r = 20; /* getpid of i386 */

    __asm__ volatile("int $0x80" : "+a"(r) : : "memory", "r8", "r9", "r10", "r11");
    return 0;
#else
    return SKIPPED;
#endif
}

static int test_int_0x80_kills(void)
{
    int status = in_child(0, call_i386);

    if (exits_with(status, SKIPPED) || (WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV))
        return SKIPPED; /* the kernel has no 32-bit entry at all */
    CHECK(exits_with(status, 0));
    status = in_child(1, call_i386);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
    return 0;
}

static int call_x32(void)
{
    (void)syscall(0x40000000 | 39);
    return 0;
}

static int test_x32_really_kills(void)
{
    int status = in_child(0, call_x32);

    if (SYS_getpid != 39)
        return SKIPPED; /* not x86-64 */
    CHECK(exits_with(status, 0));
    status = in_child(1, call_x32);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
    return 0;
}

static int call_minus_one(void)
{
    return syscall(-1) < 0 ? errno : 0;
}

static int test_call_minus_one_is_enosys(void)
{
    CHECK(exits_with(in_child(1, call_minus_one), ENOSYS));
    return 0;
}

static void *thread(void *argument)
{
    *(int *)argument = 1;
    return NULL;
}

static int start_thread(void)
{
    pthread_t id;
    int ran = 0;

    if (pthread_create(&id, NULL, thread, &ran) != 0 || pthread_join(id, NULL) != 0)
        return 1;
    return ran ? 0 : 2;
}

static int test_threads_start_without_clone3(void)
{
    CHECK(exits_with(in_child(1, start_thread), 0));
    return 0;
}

static int make_fifo(void)
{
    char path[64];
    int r;

    (void)snprintf(path, sizeof(path), "/tmp/oxgen-test-%d", (int)getpid());
    r = mkfifo(path, 0600);
    (void)unlink(path);
    return r == 0 ? 0 : errno;
}

static int test_fifos_can_be_made(void)
{
    CHECK(exits_with(in_child(1, make_fifo), 0));
    return 0;
}

static int own_limits_and_affinity(void)
{
    struct rlimit limit;
    cpu_set_t set;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || setrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 1;
    if (sched_getaffinity(0, sizeof(set), &set) != 0 ||
        sched_setaffinity(0, sizeof(set), &set) != 0)
        return 2;
    /* Named by number it is refused: a filter cannot know whose number it is. */
    if (sched_setaffinity(getpid(), sizeof(set), &set) == 0 || errno != EPERM)
        return 3;
    return sched_getaffinity(getppid(), sizeof(set), &set) == 0 ? 0 : 4;
}

static int test_limits_and_affinity_are_ones_own(void)
{
    CHECK(exits_with(in_child(1, own_limits_and_affinity), 0));
    return 0;
}

static int vfork_child(void *argument)
{
    (void)argument;
    (void)execl("/bin/true", "true", (char *)NULL);
    _exit(1);
}

/* How the warden starts a plugin. */
static int start_as_the_warden_does(void)
{
    static char stack[65536] __attribute__((aligned(16)));
    int pidfd = -1;
    siginfo_t end;
    pid_t pid = clone(vfork_child, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | 0x1000 | SIGCHLD,
                      NULL, &pidfd, NULL, NULL);

    if (pid < 0)
        return errno;
    if (pidfd < 0 || waitid((idtype_t)3, (id_t)pidfd, &end, WEXITED) != 0)
        return 200;
    return end.si_code == CLD_EXITED ? end.si_status : 201;
}

static int test_the_warden_can_start_a_program(void)
{
    CHECK(exits_with(in_child(1, start_as_the_warden_does), 0));
    return 0;
}

static int load_again(void)
{
    return ox_seccomp_load() == 0 && prctl(PR_GET_SECCOMP, 0, 0, 0, 0) == 2 ? 0 : 1;
}

static int test_filters_stack(void)
{
    CHECK(exits_with(in_child(1, load_again), 0));
    return 0;
}

static int load_without_no_new_privs(void)
{
    if (setresuid(65534, 65534, 65534) != 0)
        return 1;
    return -ox_seccomp_load();
}

static int test_loading_fails_without_no_new_privs(void)
{
    if (geteuid() != 0)
        return SKIPPED;
    CHECK(exits_with(in_child(0, load_without_no_new_privs), EACCES));
    return 0;
}

int main(int argc, char **argv)
{
    static const struct check_test tests[] = {
        TEST(test_real_calls_are_refused),
        TEST(test_refusals_are_the_filters),
        TEST(test_their_allowed_twins_work),
        TEST(test_int_0x80_kills),
        TEST(test_x32_really_kills),
        TEST(test_call_minus_one_is_enosys),
        TEST(test_threads_start_without_clone3),
        TEST(test_fifos_can_be_made),
        TEST(test_limits_and_affinity_are_ones_own),
        TEST(test_the_warden_can_start_a_program),
        TEST(test_filters_stack),
        TEST(test_loading_fails_without_no_new_privs),
    };

    if (argc > 2 && strcmp(argv[1], "--exec") == 0) {
        int r = load();

        if (r == 0)
            (void)execv(argv[2], argv + 2);
        fprintf(stderr, "%s: %s\n", argv[2], strerror(r < 0 ? -r : errno));
        return 125;
    }
    return check_main(tests, LENGTH(tests), argc, argv);
}
