/* The filter as a program: simulated for every number of both architectures, whatever machine this is. */
#define _GNU_SOURCE 1

#include "check.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <sys/syscall.h>

#include "../../csrc/linux/seccomp.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))
#define ERRNO(number) (SECCOMP_RET_ERRNO | (number))

struct row {
    const char *name;
    int x86_64;
    int aarch64;
    const char *action;
};

static const struct row rows[] = {
#define OX_SYSCALL(name, x86_64, aarch64, action) { #name, x86_64, aarch64, #action },
#include "../../csrc/linux/syscalls.h"
#undef OX_SYSCALL
};

static const uint32_t arches[] = { AUDIT_ARCH_X86_64, AUDIT_ARCH_AARCH64 };

static int number_of(const struct row *row, uint32_t arch)
{
    return arch == AUDIT_ARCH_X86_64 ? row->x86_64 : row->aarch64;
}

static const struct row *row_of(uint32_t arch, int number)
{
    for (size_t i = 0; i < LENGTH(rows); i++)
        if (number_of(&rows[i], arch) == number)
            return &rows[i];
    return NULL;
}

static const struct row *row_named(const char *name)
{
    for (size_t i = 0; i < LENGTH(rows); i++)
        if (strcmp(rows[i].name, name) == 0)
            return &rows[i];
    return NULL;
}

/* A cBPF machine as seccomp has it. Every run must end in a return inside the program. */
static uint32_t simulate(const struct sock_filter *code, size_t count,
                         const struct seccomp_data *call, size_t *ret_steps)
{
    uint32_t accumulator = 0;
    size_t steps = 0;

    for (size_t at = 0;; at++) {
        const struct sock_filter *in = &code[at];

        if (at >= count) {
            fprintf(stderr, "fell off the program at %zu\n", at);
            abort();
        }
        steps++;
        switch (in->code) {
        case BPF_LD | BPF_W | BPF_ABS:
            if (in->k % 4 != 0 || in->k + 4 > sizeof(*call))
                abort();
            memcpy(&accumulator, (const char *)call + in->k, 4);
            break;
        case BPF_ALU | BPF_AND | BPF_K: accumulator &= in->k; break;
        case BPF_JMP | BPF_JA: at += in->k; break;
        case BPF_JMP | BPF_JEQ | BPF_K: at += accumulator == in->k ? in->jt : in->jf; break;
        case BPF_JMP | BPF_JGE | BPF_K: at += accumulator >= in->k ? in->jt : in->jf; break;
        case BPF_JMP | BPF_JSET | BPF_K: at += (accumulator & in->k) != 0 ? in->jt : in->jf; break;
        case BPF_RET | BPF_K: *ret_steps = steps; return in->k;
        default: fprintf(stderr, "instruction %#x is none of ours\n", in->code); abort();
        }
    }
}

static uint32_t ask(uint32_t built_for, uint32_t arch, uint32_t number, const uint64_t *args)
{
    static struct sock_filter code[OX_SECCOMP_CAPACITY];
    static uint32_t built;
    static size_t count;
    struct seccomp_data call = { .nr = (int)number, .arch = arch };
    size_t steps;

    if (built != built_for) {
        count = ox_seccomp_build(code, LENGTH(code), built_for);
        built = built_for;
        if (count == 0)
            abort();
    }
    if (args != NULL)
        memcpy(call.args, args, sizeof(call.args));
    return simulate(code, count, &call, &steps);
}

/* A request of a file system, and none that reads or clones. */
static int changes_files(uint32_t request)
{
    static const unsigned char types[] = { 'f', 'v', 'X', 'r', 0x94, 0x97, 0xbc, 0xf5 };

    return memchr(types, (int)(request >> 8 & 0xff), sizeof(types)) != NULL && request >> 30 != 2 &&
           request != 0xc020660b && request != 0x40049409 && request != 0x4020940d;
}

/* What the words of the table mean, written down a second time and in another form. */
static uint32_t meaning(const char *action, const uint64_t *args)
{
    uint32_t a = (uint32_t)args[0], b = (uint32_t)args[1], c = (uint32_t)args[2];

    if (strcmp(action, "ALLOW") == 0)
        return SECCOMP_RET_ALLOW;
    if (strcmp(action, "EPERM") == 0)
        return ERRNO(EPERM);
    if (strcmp(action, "ENOSYS") == 0)
        return ERRNO(ENOSYS);
    if (strcmp(action, "CLONE") == 0)
        return (a & 0x7e020000) != 0 ? ERRNO(EPERM) : SECCOMP_RET_ALLOW;
    if (strcmp(action, "SOCKET") == 0) {
        if (a == 1)
            return c < 2 ? SECCOMP_RET_ALLOW : ERRNO(EPROTONOSUPPORT);
        if (a != 2 && a != 10)
            return ERRNO(EAFNOSUPPORT);
        if ((b & 15) != 1 && (b & 15) != 2)
            return ERRNO(EPERM);
        return c == 0 || c == ((b & 15) == 1 ? 6 : 17) ? SECCOMP_RET_ALLOW : ERRNO(EPROTONOSUPPORT);
    }
    if (strcmp(action, "SOCKETPAIR") == 0)
        return a != 1 ? ERRNO(EAFNOSUPPORT) : c < 2 ? SECCOMP_RET_ALLOW : ERRNO(EPROTONOSUPPORT);
    if (strcmp(action, "SETSOCKOPT") == 0)
        return b == 1 && (c == 26 || c == 50 || c == 51 || c == 52) ? ERRNO(EPERM)
                                                                    : SECCOMP_RET_ALLOW;
    if (strcmp(action, "IOCTL") == 0)
        return b == 0x5412 || b == 0x541c || changes_files(b) ? ERRNO(EPERM) : SECCOMP_RET_ALLOW;
    if (strcmp(action, "FCNTL") == 0)
        return b == 1024 || b == 1026 || b == 1040 ? ERRNO(EPERM) : SECCOMP_RET_ALLOW;
    if (strcmp(action, "PRCTL") == 0)
        return a == 35 || a == 62 ? ERRNO(EPERM) : SECCOMP_RET_ALLOW;
    if (strcmp(action, "PERSONALITY") == 0)
        return a == 0 || a == 0xffffffff ? SECCOMP_RET_ALLOW : ERRNO(EPERM);
    if (strcmp(action, "MKNOD") == 0)
        return (b & 0170000) == 0020000 || (b & 0170000) == 0060000 ? ERRNO(EPERM)
                                                                    : SECCOMP_RET_ALLOW;
    if (strcmp(action, "MKNODAT") == 0)
        return (c & 0170000) == 0020000 || (c & 0170000) == 0060000 ? ERRNO(EPERM)
                                                                    : SECCOMP_RET_ALLOW;
    if (strcmp(action, "SELF") == 0)
        return a == 0 ? SECCOMP_RET_ALLOW : ERRNO(EPERM);
    if (strcmp(action, "SETPRIORITY") == 0)
        return a == 0x6f786700    ? ERRNO(EBADRQC)
               : a == 0 && b == 0 ? SECCOMP_RET_ALLOW
                                  : ERRNO(EPERM);
    if (strcmp(action, "IOPRIO_SET") == 0)
        return a == 1 && b == 0 ? SECCOMP_RET_ALLOW : ERRNO(EPERM);
    abort();
}

/* Values that some check looks at, their neighbours, and the same with a high half. */
static const uint64_t interesting[] = {
    0,
    1,
    2,
    3,
    5,
    6,
    8,
    10,
    11,
    15,
    16,
    17,
    35,
    36,
    40,
    62,
    63,
    132,
    262,
    0x5411,
    0x5412,
    0x541c,
    0x541d,
    0x80001,
    0x80802,
    0x80803,
    0010000,
    0020000,
    0020666,
    0040000,
    0060000,
    0100644,
    0140000,
    0170000,
    0x3d0f00,
    25,
    26,
    27,
    49,
    50,
    51,
    52,
    53,
    0x10000001a,
    0x6f786700,
    0x6f786701,
    0x16f786700,
    1023,
    1024,
    1025,
    1026,
    1027,
    1030,
    1039,
    1040,
    1041,
    0x100000400,
    0x100000402,
    0x40086602, /* FS_IOC_SETFLAGS, and the 32-bit one */
    0x40046602,
    0x140086602,
    0x140046602,
    0x80086601, /* FS_IOC_GETFLAGS */
    0x80046601,
    0x401c5820, /* FS_IOC_FSSETXATTR */
    0x1401c5820,
    0x801c581f, /* FS_IOC_FSGETXATTR */
    0x40087602, /* FS_IOC_SETVERSION, and the 32-bit one */
    0x40047602,
    0x80087601,
    0x40086604, /* EXT4_IOC_SETVERSION */
    0x40806685, /* FS_IOC_ENABLE_VERITY */
    0x00006609, /* EXT4_IOC_MIGRATE */
    0xc020660b, /* FS_IOC_FIEMAP */
    0xc0286611,
    0x5000940e, /* BTRFS_IOC_SUBVOL_CREATE */
    0x40049409, /* FICLONE */
    0x4020940d, /* FICLONERANGE */
    0xc0189436, /* FIDEDUPERANGE */
    0x40047211, /* FAT_IOCTL_SET_ATTRIBUTES */
    0x80047210,
    0x40109701,
    0x4008bc10,
    0x4004f502,
    0x00004111,
    0x00020000,
    0x02000000,
    0x04000000,
    0x08000000,
    0x10000000,
    0x20000000,
    0x40000000,
    0x01000000,
    0x80000000,
    0xffffffff,
    0x100000000,
    0x100005412,
    0x110000000,
    0x100000001,
    0x100000006,
    0x100000084,
    0xffffffff00000000,
    0xffffffffffffffff,
};

static int test_every_call_is_answered_as_the_table_says(void)
{
    for (size_t arch = 0; arch < LENGTH(arches); arch++)
        for (int number = 0; number <= 600; number++) {
            const struct row *row = row_of(arches[arch], number);
            uint64_t args[6] = { 0 };
            uint32_t expected = row == NULL ? ERRNO(ENOSYS) : meaning(row->action, args);
            uint32_t answer = ask(arches[arch], arches[arch], (uint32_t)number, args);

            if (answer != expected)
                fprintf(stderr, "%#x %d %s\n", arches[arch], number, row == NULL ? "-" : row->name);
            CHECK_EQUAL(answer, expected);
        }
    return 0;
}

static int judge(uint32_t arch, const struct row *row, const uint64_t *args)
{
    uint32_t answer = ask(arch, arch, (uint32_t)number_of(row, arch), args);

    if (answer != meaning(row->action, args))
        fprintf(stderr, "%s(%#llx, %#llx, %#llx)\n", row->name, (unsigned long long)args[0],
                (unsigned long long)args[1], (unsigned long long)args[2]);
    CHECK_EQUAL(answer, meaning(row->action, args));
    return 0;
}

static int test_arguments_are_judged_as_the_table_says(void)
{
    size_t asked = 0;

    for (size_t arch = 0; arch < LENGTH(arches); arch++)
        for (size_t i = 0; i < LENGTH(rows); i++)
            for (size_t n = 0; n < LENGTH(interesting) * LENGTH(interesting) * 4; n++) {
                uint64_t args[6] = { interesting[n % LENGTH(interesting)],
                                     interesting[n / LENGTH(interesting) % LENGTH(interesting)],
                                     interesting[n * 7 % LENGTH(interesting)],
                                     n,
                                     ~(uint64_t)n,
                                     0 };

                if (number_of(&rows[i], arches[arch]) < 0)
                    break;
                if (judge(arches[arch], &rows[i], args) != 0)
                    return 1;
                asked++;
            }
    CHECK(asked > 1000000);
    return 0;
}

/* Family, type and protocol: every three of them. */
static int test_sockets_are_judged_by_three_arguments(void)
{
    const struct row *calls[] = { row_named("socket"), row_named("socketpair") };
    size_t most = LENGTH(interesting) * LENGTH(interesting) * LENGTH(interesting), allowed = 0;

    for (size_t arch = 0; arch < LENGTH(arches); arch++)
        for (size_t i = 0; i < LENGTH(calls); i++)
            for (size_t n = 0; n < most; n++) {
                uint64_t args[6] = {
                    interesting[n % LENGTH(interesting)],
                    interesting[n / LENGTH(interesting) % LENGTH(interesting)],
                    interesting[n / LENGTH(interesting) / LENGTH(interesting)],
                };

                if (judge(arches[arch], calls[i], args) != 0)
                    return 1;
                allowed += meaning(calls[i]->action, args) == SECCOMP_RET_ALLOW;
            }
    CHECK(allowed > 100 && allowed < most);
    return 0;
}

static int test_x32_calls_kill(void)
{
    for (uint32_t number = 0; number <= 600; number++)
        CHECK_EQUAL(ask(AUDIT_ARCH_X86_64, AUDIT_ARCH_X86_64, 0x40000000 | number, NULL),
                    SECCOMP_RET_KILL_PROCESS);
    CHECK_EQUAL(ask(AUDIT_ARCH_X86_64, AUDIT_ARCH_X86_64, 0x7fffffff, NULL),
                SECCOMP_RET_KILL_PROCESS);
    return 0;
}

static int test_numbers_of_no_abi_are_enosys(void)
{
    static const uint32_t numbers[] = { 512, 1023, 0x3fffffff, 0x80000000, 0xc0000000, 0xffffffff };

    for (size_t i = 0; i < LENGTH(numbers); i++) {
        CHECK_EQUAL(ask(AUDIT_ARCH_X86_64, AUDIT_ARCH_X86_64, numbers[i], NULL), ERRNO(ENOSYS));
        CHECK_EQUAL(ask(AUDIT_ARCH_AARCH64, AUDIT_ARCH_AARCH64, numbers[i], NULL), ERRNO(ENOSYS));
    }
    CHECK_EQUAL(ask(AUDIT_ARCH_AARCH64, AUDIT_ARCH_AARCH64, 0x40000027, NULL), ERRNO(ENOSYS));
    return 0;
}

static int test_foreign_architectures_kill(void)
{
    static const uint32_t foreign[] = { AUDIT_ARCH_I386, AUDIT_ARCH_ARM, AUDIT_ARCH_MIPS, 0 };

    for (uint32_t number = 0; number <= 600; number++) {
        for (size_t i = 0; i < LENGTH(foreign); i++)
            for (size_t arch = 0; arch < LENGTH(arches); arch++)
                CHECK_EQUAL(ask(arches[arch], foreign[i], number, NULL), SECCOMP_RET_KILL_PROCESS);
        CHECK_EQUAL(ask(AUDIT_ARCH_X86_64, AUDIT_ARCH_AARCH64, number, NULL),
                    SECCOMP_RET_KILL_PROCESS);
        CHECK_EQUAL(ask(AUDIT_ARCH_AARCH64, AUDIT_ARCH_X86_64, number, NULL),
                    SECCOMP_RET_KILL_PROCESS);
    }
    return 0;
}

static int test_no_name_and_no_number_twice(void)
{
    for (size_t i = 0; i < LENGTH(rows); i++)
        for (size_t j = i + 1; j < LENGTH(rows); j++) {
            CHECK(strcmp(rows[i].name, rows[j].name) != 0);
            CHECK(rows[i].x86_64 < 0 || rows[i].x86_64 != rows[j].x86_64);
            CHECK(rows[i].aarch64 < 0 || rows[i].aarch64 != rows[j].aarch64);
        }
    return 0;
}

/* Every number up to the newest is listed, but for the holes that the kernel itself keeps. */
static int test_the_table_has_no_gap(void)
{
    for (int number = 0; number <= 471; number++) {
        if (number < 337 || number > 423)
            CHECK(row_of(AUDIT_ARCH_X86_64, number) != NULL);
        if ((number < 244 || number > 259) && (number < 295 || number > 423))
            CHECK(row_of(AUDIT_ARCH_AARCH64, number) != NULL);
    }
    return 0;
}

static int test_numbers_are_those_of_the_system_headers(void)
{
    static const struct {
        const char *name;
        int number;
    } known[] = {
        { "read", SYS_read },
        { "clone", SYS_clone },
        { "execve", SYS_execve },
        { "ioctl", SYS_ioctl },
        { "prctl", SYS_prctl },
        { "mount", SYS_mount },
        { "ptrace", SYS_ptrace },
        { "socket", SYS_socket },
        { "mknodat", SYS_mknodat },
        { "keyctl", SYS_keyctl },
        { "unshare", SYS_unshare },
        { "setns", SYS_setns },
        { "prlimit64", SYS_prlimit64 },
        { "bpf", SYS_bpf },
        { "seccomp", SYS_seccomp },
        { "execveat", SYS_execveat },
        { "userfaultfd", SYS_userfaultfd },
        { "statx", SYS_statx },
        { "rseq", SYS_rseq },
        { "personality", SYS_personality },
        { "setpriority", SYS_setpriority },
        { "ioprio_set", SYS_ioprio_set },
    };
    uint32_t arch = row_named("read")->x86_64 == SYS_read ? AUDIT_ARCH_X86_64 : AUDIT_ARCH_AARCH64;

    for (size_t i = 0; i < LENGTH(known); i++) {
        CHECK(row_named(known[i].name) != NULL);
        CHECK_EQUAL(number_of(row_named(known[i].name), arch), known[i].number);
    }
    return 0;
}

static int test_the_program_fits_and_is_shallow(void)
{
    static struct sock_filter code[OX_SECCOMP_CAPACITY];

    for (size_t arch = 0; arch < LENGTH(arches); arch++) {
        size_t count = ox_seccomp_build(code, LENGTH(code), arches[arch]);
        size_t deepest = 0;

        CHECK(count > 100 && count <= BPF_MAXINSNS);
        for (int number = 0; number <= 600; number++) {
            struct seccomp_data call = { .nr = number, .arch = arches[arch] };
            size_t steps;

            (void)simulate(code, count, &call, &steps);
            deepest = steps > deepest ? steps : deepest;
        }
        CHECK(deepest <= 24);
        CHECK_EQUAL(ox_seccomp_build(code, count, arches[arch]), count);
        CHECK_EQUAL(ox_seccomp_build(code, count - 1, arches[arch]), 0);
        CHECK_EQUAL(ox_seccomp_build(code, 0, arches[arch]), 0);
        fprintf(stderr, "%#x: %zu instructions, at most %zu a call\n", arches[arch], count,
                deepest);
    }
    CHECK_EQUAL(ox_seccomp_build(code, LENGTH(code), AUDIT_ARCH_I386), 0);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct check_test tests[] = {
        TEST(test_every_call_is_answered_as_the_table_says),
        TEST(test_arguments_are_judged_as_the_table_says),
        TEST(test_sockets_are_judged_by_three_arguments),
        TEST(test_x32_calls_kill),
        TEST(test_numbers_of_no_abi_are_enosys),
        TEST(test_foreign_architectures_kill),
        TEST(test_no_name_and_no_number_twice),
        TEST(test_the_table_has_no_gap),
        TEST(test_numbers_are_those_of_the_system_headers),
        TEST(test_the_program_fits_and_is_shallow),
    };

    return check_main(tests, LENGTH(tests), argc, argv);
}
