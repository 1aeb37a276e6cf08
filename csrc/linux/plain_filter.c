/* A second, small filter. The kernel asks both, and the stricter answer holds (seccomp(2)). */
#include "plain_filter.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "landlock.h"
#include "missing.h"
#include "seccomp.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* On files by name or descriptor; the uid of the caller owns what lies outside too. */
static const int changes_of_files[] = {
#ifdef SYS_chmod
    SYS_chmod,       SYS_chown,        SYS_lchown,       SYS_utime,         SYS_utimes,
    SYS_futimesat,
#endif
    SYS_fchmod,      SYS_fchmodat,     SYS_fchmodat2,    SYS_fchown,        SYS_fchownat,
    SYS_utimensat,   SYS_setxattr,     SYS_lsetxattr,    SYS_fsetxattr,     SYS_setxattrat,
    SYS_removexattr, SYS_lremovexattr, SYS_fremovexattr, SYS_removexattrat,
};

/* Where there is no network namespace a socket with a name, or that can be given a name to send to,
 * reaches whoever else is on the machine, and descriptors come in through it: of a directory outside of
 * a chroot, for instance. The pairs that are left are connected for good. */
static const int names_of_sockets[] = { SYS_bind, SYS_connect, SYS_listen, SYS_accept,
                                        SYS_accept4 };

#define CODE_MAX (32 + 2 * (LENGTH(changes_of_files) + LENGTH(names_of_sockets)))

struct code {
    struct sock_filter code[CODE_MAX];
    unsigned short count;
};

static void emit(struct code *code, struct sock_filter instruction)
{
    code->code[code->count++] = instruction;
}

#define LOAD(offset) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (offset))
#define ARGUMENT(n) offsetof(struct seccomp_data, args[n])
#define IF_EQUAL(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), (yes), (no))
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define REFUSE(errnum) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (errnum))

static void refuse(struct code *code, int number, int errnum)
{
    emit(code, (struct sock_filter)IF_EQUAL((uint32_t)number, 0, 1));
    emit(code, (struct sock_filter)REFUSE((uint32_t)errnum));
}

#define TYPE_MASK 0xf /* without SOCK_CLOEXEC and SOCK_NONBLOCK */

static void emit_all(struct code *code, const struct sock_filter *instructions, size_t count)
{
    for (size_t i = 0; i < count; i++)
        emit(code, instructions[i]);
}

/* Datagrams go wherever sendmsg says, behind a pointer, where no filter sees it; SOCK_RAW of this
 * family makes them too. */
static void refuse_datagrams(struct code *code)
{
    static const struct sock_filter pairs[] = {
        IF_EQUAL(SYS_socketpair, 0, 6),
        LOAD(ARGUMENT(1)),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, TYPE_MASK),
        IF_EQUAL(SOCK_STREAM, 2, 0),
        IF_EQUAL(SOCK_SEQPACKET, 1, 0),
        REFUSE(ESOCKTNOSUPPORT),
        ALLOW,
    };
    static const struct sock_filter sendto[] = {
        IF_EQUAL(SYS_sendto, 0, 6),
        LOAD(ARGUMENT(4)),
        IF_EQUAL(0, 0, 2),
        LOAD(ARGUMENT(4) + 4),
        IF_EQUAL(0, 1, 0),
        REFUSE(EPERM),
        ALLOW,
    };

    emit_all(code, pairs, LENGTH(pairs));
    emit_all(code, sendto, LENGTH(sendto));
}

int ox_plain_filter_load(int shared_uid)
{
    static const struct sock_filter mark[] = {
        IF_EQUAL(SYS_setpriority, 0, 3),
        LOAD(ARGUMENT(0)),
        IF_EQUAL(OX_SECCOMP_MARK_PLAIN, 0, 1),
        REFUSE(OX_SECCOMP_MARK_ERRNO),
        ALLOW,
    };
    struct code code = { .count = 0 };
    struct sock_fprog given = { .filter = code.code };

    emit(&code, (struct sock_filter)LOAD(offsetof(struct seccomp_data, arch)));
    emit(&code, (struct sock_filter)IF_EQUAL(ox_filter_native(), 1, 0));
    emit(&code, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
    emit(&code, (struct sock_filter)LOAD(offsetof(struct seccomp_data, nr)));
    refuse(&code, SYS_socket, EAFNOSUPPORT);
    refuse_datagrams(&code);
    for (size_t i = 0; i < LENGTH(names_of_sockets); i++)
        refuse(&code, names_of_sockets[i], EPERM);
    for (size_t i = 0; i < LENGTH(changes_of_files) && shared_uid; i++)
        refuse(&code, changes_of_files[i], EPERM);
    /* By name; before its version 3 Landlock does not know it. */
    if (shared_uid && ox_landlock_version() < 3)
        refuse(&code, SYS_truncate, EPERM);
    emit_all(&code, mark, LENGTH(mark));
    given.len = code.count;
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &given) < 0)
        return -errno;
    return ox_seccomp_check(OX_SECCOMP_MARK_PLAIN);
}
