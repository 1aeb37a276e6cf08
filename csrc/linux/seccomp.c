/* The default filter on system calls. The policy is the table syscalls.h; this file turns it
 * into BPF.
 *
 * The program is a search tree over ranges of numbers that share an action: each call costs
 * seven or eight comparisons, where a list in line costs hundreds. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include "seccomp.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../core.h"
#include "missing.h"

#if defined(__x86_64__) && !defined(__ILP32__)
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__) && defined(__AARCH64EL__) && !defined(__ILP32__)
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#else
#error "no system call table for this architecture: x86-64 and little-endian aarch64 have one"
#endif

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* Numbers from here on are unknown; the table must stay below. */
#define NUMBERS 512

/* x32 calls carry the number with this bit, which a table of plain numbers would take for unknown
 * ones; with bit 31 set as well it is no call of any ABI (syscall(-1) is ENOSYS). */
#define X32_BIT 0x40000000U
#define X32_END 0x80000000U

enum action {
    ENOSYS_ACTION = 0,
    ALLOW_ACTION,
    EPERM_ACTION,
    KILL_ACTION,
    CLONE_ACTION,
    SOCKET_ACTION,
    SOCKETPAIR_ACTION,
    IOCTL_ACTION,
    FCNTL_ACTION,
    SETSOCKOPT_ACTION,
    PRCTL_ACTION,
    PERSONALITY_ACTION,
    MKNOD_ACTION,
    MKNODAT_ACTION,
    SELF_ACTION,
    SETPRIORITY_ACTION,
    IOPRIO_SET_ACTION,
    ACTIONS
};

struct rule {
    int16_t x86_64;
    int16_t aarch64;
    uint8_t action;
};

static const struct rule rules[] = {
#define OX_SYSCALL(name, x86_64, aarch64, action) { x86_64, aarch64, action##_ACTION },
#include "syscalls.h"
#undef OX_SYSCALL
};

/* The kernel cuts these arguments to 32 bits before it looks at them, so the low half is the whole
 * truth, and comparing the high half too would let a caller hide behind it (CVE-2019-10063: TIOCSTI
 * with a high bit set). Both architectures are little-endian: the low half comes first. */
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define LOAD_ARGUMENT(n) LOAD(args[n])
#define AND(mask) BPF_STMT(BPF_ALU | BPF_AND | BPF_K, (mask))
#define IF_EQUAL(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), (yes), (no))
#define IF_ANY_BIT(mask, yes, no) BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, (mask), (yes), (no))
#define ANSWER(value) BPF_STMT(BPF_RET | BPF_K, (value))
#define ALLOWED ANSWER(SECCOMP_RET_ALLOW)
#define REFUSED(errnum) ANSWER(SECCOMP_RET_ERRNO | (errnum))
#define KILLED ANSWER(SECCOMP_RET_KILL_PROCESS)

#define NAMESPACE_FLAGS \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | \
     CLONE_NEWNET)

static const struct sock_filter code_enosys[] = { REFUSED(ENOSYS) };
static const struct sock_filter code_allow[] = { ALLOWED };
static const struct sock_filter code_eperm[] = { REFUSED(EPERM) };
static const struct sock_filter code_kill[] = { KILLED };

/* CLONE_NEWTIME needs no mention: it is in the bits of the exit signal, and only clone3 knows
 * it. */
static const struct sock_filter code_clone[] = {
    LOAD_ARGUMENT(0),
    IF_ANY_BIT(NAMESPACE_FLAGS, 0, 1),
    REFUSED(EPERM),
    ALLOWED,
};

/* Families and protocols are answered as by a kernel that lacks them, because programs know how to
 * go on from that. Of the Internet families only TCP and UDP: another protocol of the same types is
 * another part of the kernel (SCTP, DCCP, MPTCP, SMC; with 0 the kernel takes TCP for a stream, UDP for
 * datagrams), and raw and packet sockets (AF_INET with SOCK_PACKET is a packet socket too) need a
 * capability that a plugin never has. No AF_NETLINK at all: what waits in such a socket is memory of
 * the kernel that no cgroup is charged for, and every socket may hold twice rmem_max of it. Resolvers
 * and lists of interfaces go on without. */
#define CHECK_SOCKET(others) \
    LOAD_ARGUMENT(0), IF_EQUAL(AF_UNIX, 3, 0), IF_EQUAL(AF_INET, 5, 0), IF_EQUAL(AF_INET6, 4, 0), \
        REFUSED(EAFNOSUPPORT),                                           /* AF_UNIX: */ \
        LOAD_ARGUMENT(2), IF_EQUAL(0, 14, 0), IF_EQUAL(PF_UNIX, 13, 12), /* the Internet: */ \
        LOAD_ARGUMENT(1), AND(0xf /* SOCK_TYPE_MASK: without SOCK_CLOEXEC and SOCK_NONBLOCK */), \
        IF_EQUAL(SOCK_STREAM, 1, 0), IF_EQUAL(SOCK_DGRAM, 3, 7),          /* a stream: */ \
        LOAD_ARGUMENT(2), IF_EQUAL(0, 4, 0), IF_EQUAL(IPPROTO_TCP, 3, 5), /* datagrams: */ \
        LOAD_ARGUMENT(2), IF_EQUAL(0, 1, 0), IF_EQUAL(IPPROTO_UDP, 0, 2), others, REFUSED(EPERM), \
        REFUSED(EPROTONOSUPPORT), ALLOWED
static const struct sock_filter code_socket[] = { CHECK_SOCKET(ALLOWED) };
/* The same for a cell whose launcher wants to know of sockets other than AF_UNIX. */
static const struct sock_filter code_socket_noted[] = { CHECK_SOCKET(
    ANSWER(SECCOMP_RET_USER_NOTIF)) };

static const struct sock_filter code_socketpair[] = {
    LOAD_ARGUMENT(0), IF_EQUAL(AF_UNIX, 1, 0),  REFUSED(EAFNOSUPPORT),
    LOAD_ARGUMENT(2), IF_EQUAL(0, 1, 0),        IF_EQUAL(PF_UNIX, 0, 1),
    ALLOWED,          REFUSED(EPROTONOSUPPORT),
};

/* A request's type (_IOC_TYPE), and the bits that say whether the kernel is told anything: */
#define REQUEST_TYPE 0xff00u
#define REQUEST_TELLS 0xc0000000u
#define ONLY_READS 0x80000000u
#define TYPE(letter) ((uint32_t)(letter) << 8)

/* The first two put words into the input of a terminal, to be read by the shell that started us.
 *
 * Requests of file systems are refused by type ('f': generic and ext4, 'v', 'X': generic and XFS, 'r':
 * FAT, 0x94: btrfs, 0xf5: f2fs, 0x97: ceph, 0xbc: bcachefs): they change the attributes of a file, or what lies beside it, by a descriptor
 * for reading, and Landlock does not see them (FS_IOC_SETFLAGS, FS_IOC_FSSETXATTR, FS_IOC_SETVERSION,
 * FS_IOC_ENABLE_VERITY, BTRFS_IOC_SUBVOL_CREATE, each as the 32-bit one too). Left are those that only
 * read, and clones of what a file holds, for which the kernel wants a descriptor for writing. */
static const struct sock_filter code_ioctl[] = {
    LOAD_ARGUMENT(1),
    IF_EQUAL(TIOCSTI, 18, 0),
    IF_EQUAL(TIOCLINUX, 17, 0),
    AND(REQUEST_TYPE),
    IF_EQUAL(TYPE('T'), 16, 0),
    IF_EQUAL(TYPE('f'), 8, 0),
    IF_EQUAL(TYPE('v'), 7, 0),
    IF_EQUAL(TYPE('X'), 6, 0),
    IF_EQUAL(TYPE('r'), 5, 0),
    IF_EQUAL(TYPE(0x94), 4, 0),
    IF_EQUAL(TYPE(0xf5), 3, 0),
    IF_EQUAL(TYPE(0x97), 2, 0),
    IF_EQUAL(TYPE(0xbc), 1, 0),
    ALLOWED,
    LOAD_ARGUMENT(1),
    IF_EQUAL(FS_IOC_FIEMAP, 5, 0),
    IF_EQUAL(FICLONE, 4, 0),
    IF_EQUAL(FICLONERANGE, 3, 0),
    AND(REQUEST_TELLS),
    IF_EQUAL(ONLY_READS, 1, 0),
    REFUSED(EPERM),
    ALLOWED,
};

/* Descriptors for reading that reach whoever else uses the file: a lease or delegation makes others
 * wait who open it for writing, and F_NOTIFY tells what they do in a directory. (F_SETOWN sends
 * signals with our rights to whom kill() would reach.) */
static const struct sock_filter code_fcntl[] = {
    LOAD_ARGUMENT(1),
    IF_EQUAL(F_SETLEASE, 2, 0),
    IF_EQUAL(F_SETDELEG, 1, 0),
    IF_EQUAL(F_NOTIFY, 0, 1),
    REFUSED(EPERM),
    ALLOWED,
};

/* No programs for the kernel: what it compiles them to is memory that no cgroup is charged for, out of
 * a budget of the whole host (net.core.bpf_jit_limit), and nobody without packet sockets has a use for
 * them. */
static const struct sock_filter code_setsockopt[] = {
    LOAD_ARGUMENT(1),
    IF_EQUAL(SOL_SOCKET, 0, 5),
    LOAD_ARGUMENT(2),
    IF_EQUAL(SO_ATTACH_FILTER, 4, 0),
    IF_EQUAL(SO_ATTACH_BPF, 3, 0),
    IF_EQUAL(SO_ATTACH_REUSEPORT_CBPF, 2, 0),
    IF_EQUAL(SO_ATTACH_REUSEPORT_EBPF, 1, 0),
    ALLOWED,
    REFUSED(EPERM),
};

/* PR_SET_MM rewrites what /proc says about a process; PR_SCHED_CORE can name another one. */
static const struct sock_filter code_prctl[] = {
    LOAD_ARGUMENT(0), IF_EQUAL(PR_SET_MM, 1, 0), IF_EQUAL(PR_SCHED_CORE, 0, 1), REFUSED(EPERM),
    ALLOWED,
};

/* The native personality and the query. Others switch off address randomisation or turn reading
 * into executing. */
static const struct sock_filter code_personality[] = {
    LOAD_ARGUMENT(0), IF_EQUAL(0, 1, 0), IF_EQUAL(0xffffffff, 0, 1), ALLOWED, REFUSED(EPERM),
};

/* mkfifo() is mknod with S_IFIFO and stays; device nodes do not. */
#define CHECK_MODE(argument) \
    LOAD_ARGUMENT(argument), AND(S_IFMT), IF_EQUAL(S_IFCHR, 1, 0), IF_EQUAL(S_IFBLK, 0, 1), \
        REFUSED(EPERM), ALLOWED
static const struct sock_filter code_mknod[] = { CHECK_MODE(1) };
static const struct sock_filter code_mknodat[] = { CHECK_MODE(2) };

/* A filter cannot tell a thread's own id from another's, so it is pid 0 or nothing: with one uid
 * for warden and plugin a plugin could slow down its warden, or at levels without a pid
 * namespace any process of the user. pthread_setaffinity_np() and pthread_setschedparam() name a
 * thread by number and fail with EPERM; sched_setaffinity(0, ...) works. */
static const struct sock_filter code_self[] = {
    LOAD_ARGUMENT(0),
    IF_EQUAL(0, 0, 1),
    ALLOWED,
    REFUSED(EPERM),
};

#define CHECK_WHICH_AND_WHO(which) \
    LOAD_ARGUMENT(0), IF_EQUAL((which), 0, 3), LOAD_ARGUMENT(1), IF_EQUAL(0, 0, 1), ALLOWED, \
        REFUSED(EPERM)
static const struct sock_filter code_setpriority[] = {
    LOAD_ARGUMENT(0),
    IF_EQUAL(OX_SECCOMP_MARK, 0, 1),
    REFUSED(OX_SECCOMP_MARK_ERRNO),
    CHECK_WHICH_AND_WHO(PRIO_PROCESS),
};
static const struct sock_filter code_ioprio_set[] = {
    CHECK_WHICH_AND_WHO(1 /* IOPRIO_WHO_PROCESS */),
};

#define CODE(array) \
    { \
        array, LENGTH(array) \
    }
struct leaf {
    const struct sock_filter *code;
    size_t count;
};
static const struct leaf leaves[ACTIONS] = {
    [ENOSYS_ACTION] = CODE(code_enosys),
    [ALLOW_ACTION] = CODE(code_allow),
    [EPERM_ACTION] = CODE(code_eperm),
    [KILL_ACTION] = CODE(code_kill),
    [CLONE_ACTION] = CODE(code_clone),
    [SOCKET_ACTION] = CODE(code_socket),
    [SOCKETPAIR_ACTION] = CODE(code_socketpair),
    [IOCTL_ACTION] = CODE(code_ioctl),
    [FCNTL_ACTION] = CODE(code_fcntl),
    [SETSOCKOPT_ACTION] = CODE(code_setsockopt),
    [PRCTL_ACTION] = CODE(code_prctl),
    [PERSONALITY_ACTION] = CODE(code_personality),
    [MKNOD_ACTION] = CODE(code_mknod),
    [MKNODAT_ACTION] = CODE(code_mknodat),
    [SELF_ACTION] = CODE(code_self),
    [SETPRIORITY_ACTION] = CODE(code_setpriority),
    [IOPRIO_SET_ACTION] = CODE(code_ioprio_set),
};

static const struct leaf leaf_socket_noted = CODE(code_socket_noted);

/* Neighbouring numbers with one action; a range ends where the next begins. */
struct range {
    uint32_t first;
    uint8_t action;
};

struct program {
    struct sock_filter *code;
    size_t capacity;
    size_t count; /* may exceed capacity; then nothing was written beyond it */
    int noted;    /* sockets other than AF_UNIX are announced to the listener */
    int notes;    /* enum ox_notes: what else is */
    uint64_t pass;
};

static void push(struct program *program, struct sock_filter instruction)
{
    if (program->count < program->capacity)
        program->code[program->count] = instruction;
    program->count++;
}

/* The rest of the program is the same for a cell that is watched: only answers differ. */
static void emit(struct program *program, struct sock_filter instruction)
{
    if (instruction.code == (BPF_RET | BPF_K) &&
        instruction.k != (SECCOMP_RET_ERRNO | OX_SECCOMP_MARK_ERRNO) &&
        program->notes >= (instruction.k == SECCOMP_RET_ALLOW ? OX_NOTES_ALL : OX_NOTES_REFUSED))
        instruction.k = SECCOMP_RET_USER_NOTIF;
    push(program, instruction);
}

static void add_range(struct range *ranges, size_t *count, uint32_t first, uint8_t action)
{
    if (*count > 0 && ranges[*count - 1].action == action)
        return;
    ranges[*count] = (struct range){ first, action };
    (*count)++;
}

/* ret_ranges has room for NUMBERS + 3 entries. */
static size_t find_ranges(uint32_t arch, struct range *ret_ranges)
{
    uint8_t actions[NUMBERS] = { ENOSYS_ACTION };
    size_t count = 0;

    for (size_t i = 0; i < LENGTH(rules); i++) {
        int number = arch == AUDIT_ARCH_X86_64 ? rules[i].x86_64 : rules[i].aarch64;

        if (number >= 0)
            actions[number] = rules[i].action;
    }
    for (uint32_t number = 0; number < NUMBERS; number++)
        add_range(ret_ranges, &count, number, actions[number]);
    add_range(ret_ranges, &count, NUMBERS, ENOSYS_ACTION);
    if (arch == AUDIT_ARCH_X86_64) {
        add_range(ret_ranges, &count, X32_BIT, KILL_ACTION);
        add_range(ret_ranges, &count, X32_END, ENOSYS_ACTION);
    }
    return count;
}

/* A node is one comparison, and one jump more when the right half starts further away than the
 * eight bits of a conditional jump reach. */
#define NEAR 255

static size_t tree_size(const struct range *ranges, size_t count)
{
    size_t half = count / 2;
    size_t left;

    if (count == 1)
        return leaves[ranges[0].action].count;
    left = tree_size(ranges, half);
    return (left > NEAR ? 2 : 1) + left + tree_size(ranges + half, count - half);
}

/* Recursion is as deep as the logarithm of the number of ranges: nine at most. */
static void emit_tree(struct program *program, const struct range *ranges, size_t count)
{
    size_t half = count / 2;
    size_t left;

    if (count == 1) {
        const struct leaf *leaf = program->noted && ranges[0].action == SOCKET_ACTION
                                      ? &leaf_socket_noted
                                      : &leaves[ranges[0].action];

        for (size_t i = 0; i < leaf->count; i++)
            emit(program, leaf->code[i]);
        return;
    }
    left = tree_size(ranges, half);
    if (left > NEAR) {
        emit(program,
             (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, ranges[half].first, 0, 1));
        emit(program, (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, left));
    } else {
        emit(program,
             (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, ranges[half].first, left, 0));
    }
    emit_tree(program, ranges, half);
    emit_tree(program, ranges + half, count - half);
}

/* One sendmsg is answered at once: the one with the pass in an argument that sendmsg does not use. */
static void emit_way_past(struct program *program)
{
    const struct sock_filter way[] = {
        IF_EQUAL(SYS_sendmsg, 0, 6),
        LOAD(args[5]),
        IF_EQUAL((uint32_t)program->pass, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[5]) + 4),
        IF_EQUAL((uint32_t)(program->pass >> 32), 0, 1),
        ALLOWED,
        LOAD(nr),
    };

    for (size_t i = 0; i < LENGTH(way); i++)
        push(program, way[i]);
}

static size_t build(struct program *program, uint32_t arch)
{
    struct range ranges[NUMBERS + 3];
    size_t count;

    if (arch != AUDIT_ARCH_X86_64 && arch != AUDIT_ARCH_AARCH64)
        return 0;
    /* Numbers mean something only together with the architecture: int 0x80 enters the kernel with
     * those of i386, whatever the program was compiled for. */
    emit(program, (struct sock_filter)LOAD(arch));
    emit(program, (struct sock_filter)IF_EQUAL(arch, 1, 0));
    emit(program, (struct sock_filter)KILLED);
    emit(program, (struct sock_filter)LOAD(nr));
    if (program->notes == OX_NOTES_ALL)
        emit_way_past(program);
    count = find_ranges(arch, ranges);
    emit_tree(program, ranges, count);
    return program->count <= program->capacity ? program->count : 0;
}

size_t ox_seccomp_build(struct sock_filter *ret, size_t capacity, uint32_t arch)
{
    struct program program = { .code = ret, .capacity = capacity };

    return build(&program, arch);
}

static int load(struct program *program, unsigned long flags)
{
    struct sock_filter code[OX_SECCOMP_CAPACITY];
    struct sock_fprog given = { .filter = code };
    long r;

    program->code = code;
    program->capacity = LENGTH(code);
    given.len = (unsigned short)build(program, NATIVE_ARCH);
    if (given.len == 0)
        return -EOVERFLOW;
    r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &given);
    if (r < 0)
        return -errno;
    return ox_seccomp_check(OX_SECCOMP_MARK) < 0 ? -EBADE : (int)r;
}

int ox_seccomp_check(uint32_t mark)
{
    return syscall(SYS_setpriority, mark, 0, 0) < 0 && errno == OX_SECCOMP_MARK_ERRNO ? 0 : -EBADE;
}

int ox_seccomp_load(void)
{
    struct program program = { .noted = 0 };

    return load(&program, 0);
}

int ox_seccomp_load_noted(int *ret_listener)
{
    struct program program = { .noted = 1 };
    int r = load(&program, SECCOMP_FILTER_FLAG_NEW_LISTENER);

    /* EBUSY: a filter that was there before has one; EINVAL: this kernel knows of none. */
    if (r == -EBUSY || r == -EINVAL) {
        *ret_listener = -1;
        return ox_seccomp_load();
    }
    if (r < 0)
        return r;
    *ret_listener = r;
    return 0;
}

int ox_seccomp_load_watched(int notes, uint64_t pass, int *ret_listener)
{
    struct program program = { .notes = notes, .pass = pass };
    int r = load(&program, SECCOMP_FILTER_FLAG_NEW_LISTENER);

    if (r < 0)
        return r;
    *ret_listener = r;
    return 0;
}

uint32_t ox_filter_native(void)
{
    return NATIVE_ARCH;
}

uint32_t ox_filter_floor(uint32_t arch, struct ox_instruction *ret_code, uint32_t capacity)
{
    return (uint32_t)ox_seccomp_build((struct sock_filter *)ret_code, capacity, arch);
}

const struct ox_syscall *ox_syscall_at(uint32_t index)
{
    static const struct ox_syscall table[] = {
#define OX_SYSCALL(name, x86_64, aarch64, action) { #name, x86_64, aarch64 },
#include "syscalls.h"
#undef OX_SYSCALL
    };

    return index < LENGTH(table) ? &table[index] : NULL;
}
