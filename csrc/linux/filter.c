/* The filter that a cell's programs get besides the one of their warden.
 *
 * Once it is loaded one call of ours is still to come: exec. A filter that refuses exec must let that
 * one through and no other. It sees six argument registers, and execve uses three: a pass of 192
 * random bits in the other three, new for each launch, is what it knows ours by. The program never
 * learns the pass: exec clears the registers and replaces the memory, and no filter can be read back
 * without CAP_SYS_ADMIN on the host (PTRACE_SECCOMP_GET_FILTER). */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include "filter.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../posix/system.h"

#define ERRNO_MAX 4095u

#define LOAD(offset) ((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(offset)))
#define IF_EQUAL(value, no) \
    ((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), 0, (uint8_t)(no)))

_Static_assert(sizeof(struct ox_instruction) == sizeof(struct sock_filter), "one layout");

static int is_answer(uint32_t value)
{
    uint32_t errnum = value & SECCOMP_RET_DATA;

    switch (value & SECCOMP_RET_ACTION_FULL) {
    case SECCOMP_RET_ALLOW:
    case SECCOMP_RET_KILL_PROCESS: return errnum == 0;
    case SECCOMP_RET_ERRNO: return errnum >= 1 && errnum <= ERRNO_MAX;
    default: return 0;
    }
}

static int is_accepted(const struct ox_instruction *at, uint32_t left)
{
    switch (at->code) {
    case BPF_LD | BPF_W | BPF_ABS: return at->k % 4 == 0 && at->k < sizeof(struct seccomp_data);
    case BPF_ALU | BPF_AND | BPF_K: return 1;
    case BPF_JMP | BPF_JA: return at->k < left;
    case BPF_JMP | BPF_JEQ | BPF_K:
    case BPF_JMP | BPF_JGT | BPF_K:
    case BPF_JMP | BPF_JGE | BPF_K:
    case BPF_JMP | BPF_JSET | BPF_K: return at->jt < left && at->jf < left;
    case BPF_RET | BPF_K: return is_answer(at->k);
    default: return 0;
    }
}

int ox_filter_check(const struct ox_instruction *code, uint32_t count)
{
    if (count == 0 || count > OX_FILTER_MAX || code[count - 1].code != (BPF_RET | BPF_K))
        return -EINVAL;
    for (uint32_t i = 0; i < count; i++) {
        if (!is_accepted(&code[i], count - i - 1))
            return -EINVAL;
    }
    return 0;
}

/* Every way out of it but the last leads to the instruction after it. */
static void write_prologue(struct ox_filter *filter)
{
    struct sock_filter *code = filter->code;
    uint32_t at = 0;

    code[at++] = LOAD(offsetof(struct seccomp_data, arch));
    code[at] = IF_EQUAL(ox_filter_native(), OX_FILTER_PROLOGUE - 1 - at);
    at++;
    code[at++] = LOAD(offsetof(struct seccomp_data, nr));
    code[at] = IF_EQUAL(SYS_execve, OX_FILTER_PROLOGUE - 1 - at);
    at++;
    for (uint32_t i = 0; i < 3; i++) {
        for (uint32_t half = 0; half < 2; half++) {
            /* Both architectures are little-endian: the low half comes first. */
            code[at++] = LOAD(offsetof(struct seccomp_data, args[3 + i]) + 4 * half);
            code[at] =
                IF_EQUAL((uint32_t)(filter->pass[i] >> (32 * half)), OX_FILTER_PROLOGUE - 1 - at);
            at++;
        }
    }
    code[at] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
}

void ox_filter_take(const struct ox_instruction *code, uint32_t count, struct ox_filter *ret_filter)
{
    /* Untouched it costs a cell no page. */
    if (count == 0)
        return;
    memcpy(ret_filter->code + OX_FILTER_PROLOGUE, code, count * sizeof(*code));
    ret_filter->count = OX_FILTER_PROLOGUE + count;
}

int ox_filter_renew(struct ox_filter *filter)
{
    if (getrandom(filter->pass, sizeof(filter->pass), 0) != (ssize_t)sizeof(filter->pass))
        return errno != 0 ? -errno : -EIO;
    write_prologue(filter);
    return 0;
}

int ox_filter_install(const struct ox_filter *filter)
{
    struct sock_fprog given = {
        .len = (unsigned short)filter->count,
        .filter = (struct sock_filter *)filter->code,
    };

    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &given) < 0 ? -errno : 0;
}

int ox_filter_exec(const struct ox_filter *filter, const char *path, char *const *argv,
                   char *const *envp)
{
    (void)syscall(SYS_execve, path, argv, envp, filter->pass[0], filter->pass[1], filter->pass[2]);
    return -errno;
}
