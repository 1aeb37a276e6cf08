/* The floor: vfork, exec and wait, with nothing around it. Nobody launches a program for less.
 *
 *   floor PROGRAM      then orders on stdin (orders.h) */
#define _GNU_SOURCE
#include "orders.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORKERS_MAX 1024

static const char *program;

/* Not inlined: what vfork's child does must not reach its caller's variables. */
static __attribute__((noinline)) pid_t start(char *const argv[], char *const envp[])
{
    pid_t pid = vfork();

    if (pid == 0) {
        (void)execve(program, argv, envp);
        _exit(127);
    }
    return pid;
}

static void launch(void *context)
{
    char *argv[] = { (char *)program, NULL };
    char *envp[] = { NULL };
    int status;
    pid_t pid = start(argv, envp);

    (void)context;
    if (pid < 0)
        fail("vfork failed");
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            fail("waitpid failed");
    if (status != 0)
        fail("the program did not exit with 0");
}

/* One worker process for each launch in flight: they share no memory map, which is the fastest. */
static void throughput(long in_flight, long milliseconds)
{
    static pid_t workers[WORKERS_MAX];
    atomic_long *count;
    int64_t begun, end;
    int failed = 0;

    if (in_flight < 1 || in_flight > WORKERS_MAX)
        fail("too many in flight");
    count = mmap(NULL, sizeof(*count), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (count == MAP_FAILED)
        fail("mmap failed");
    begun = now_ns();
    end = begun + milliseconds * INT64_C(1000000);
    for (long i = 0; i < in_flight; i++) {
        workers[i] = fork();
        if (workers[i] < 0)
            fail("fork failed");
        if (workers[i] == 0) {
            while (now_ns() < end) {
                launch(NULL);
                (void)atomic_fetch_add(count, 1);
            }
            _exit(0);
        }
    }
    for (long i = 0; i < in_flight; i++) {
        int status = -1;

        while (waitpid(workers[i], &status, 0) < 0 && errno == EINTR)
            continue;
        failed |= status;
    }
    end = now_ns();
    if (failed != 0)
        fail("a worker failed");
    (void)printf("%ld %lld\n", atomic_load(count), (long long)(end - begun));
    (void)munmap(count, sizeof(*count));
}

int main(int argc, char **argv)
{
    static const struct orders known = { .launch = launch, .throughput = throughput };

    if (argc != 2) {
        (void)fprintf(stderr, "usage: floor PROGRAM\n");
        return 2;
    }
    program = argv[1];
    return serve_orders(&known, NULL);
}
