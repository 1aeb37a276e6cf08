/* Sub-commands about how a run ends: by itself, by a signal, by eating what is limited. */
#include "hostile.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

double now_seconds(void)
{
    struct timespec now = { 0 };

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void sleep_seconds(double seconds)
{
    struct timespec left = { (time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9) };

    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        continue;
}

static double cpu_seconds(void)
{
    struct timespec used = { 0 };

    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (double)used.tv_sec + (double)used.tv_nsec / 1e9;
}

void burn_seconds(double seconds)
{
    double until = cpu_seconds() + seconds;

    while (cpu_seconds() < until)
        for (volatile int i = 0; i < 10000; i++)
            continue;
}

static double number(int count, char **words, int at, double otherwise)
{
    return at < count ? strtod(words[at], NULL) : otherwise;
}

static int run_exit(int count, char **words)
{
    return (int)number(count, words, 0, 0);
}

static int run_raise(int count, char **words)
{
    int sig = (int)number(count, words, 0, SIGTERM);

    (void)kill(getpid(), sig);
    /* Still here: blocked, ignored, or without an effect (as for process 1 of a namespace). */
    json_open('{');
    say_int("survived", sig);
    json_close();
    return 3;
}

static int run_abort(int count, char **words)
{
    (void)count;
    (void)words;
    abort();
}

static int run_segv(int count, char **words)
{
    volatile int *nowhere =
        (volatile int *)(long)count; /* 0 for the compiler's eyes is not known */

    (void)words;
    *nowhere = 1;
    return 3;
}

static int run_sleep(int count, char **words)
{
    sleep_seconds(number(count, words, 0, 1));
    return 0;
}

/* Tells that it is up, then sleeps: a test waits for the line. */
static int run_announce(int count, char **words)
{
    json_open('{');
    say_int("pid", getpid());
    json_close();
    sleep_seconds(number(count, words, 0, 1));
    return 0;
}

static int run_stop(int count, char **words)
{
    (void)count;
    (void)words;
    (void)kill(getpid(), SIGSTOP);
    return 3;
}

static int run_burn(int count, char **words)
{
    burn_seconds(number(count, words, 0, 1));
    return 0;
}

static int run_burn_ignoring(int count, char **words)
{
    (void)signal(SIGXCPU, SIG_IGN);
    (void)signal(SIGTERM, SIG_IGN);
    burn_seconds(number(count, words, 0, 1));
    return 0;
}

static int run_burn_children(int count, char **words)
{
    int children = (int)number(count, words, 0, 2);
    double seconds = number(count, words, 1, 1);

    for (int i = 0; i < children; i++)
        if (fork() == 0) {
            (void)signal(SIGXCPU, SIG_IGN);
            burn_seconds(seconds);
            _exit(0);
        }
    while (wait(NULL) > 0)
        continue;
    return 0;
}

/* One child after the other, each short: the sum is in nobody's own clock. */
static int run_burn_relay(int count, char **words)
{
    double each = number(count, words, 0, 0.1);
    double total = number(count, words, 1, 1);

    for (double done = 0; done < total; done += each) {
        pid_t child = fork();

        if (child == 0) {
            burn_seconds(each);
            _exit(0);
        }
        (void)waitpid(child, NULL, 0);
    }
    return 0;
}

static int touch_memory(long mebibytes)
{
    for (long i = 0; i < mebibytes; i++) {
        char *block = malloc(1 << 20);

        if (block == NULL)
            return ENOMEM;
        memset(block, (int)(i | 1), 1 << 20);
    }
    return 0;
}

static int run_touch(int count, char **words)
{
    long mebibytes = (long)number(count, words, 0, 1);
    int error = touch_memory(mebibytes);

    json_open('{');
    say_errno("touch", error);
    say_int("mebibytes", mebibytes);
    json_close();
    return error == 0 ? 0 : 3;
}

/* The leader lives, tells what became of the children, and exits with 0. */
static int run_touch_children(int count, char **words)
{
    int children = (int)number(count, words, 0, 1);
    long mebibytes = (long)number(count, words, 1, 1);
    double hold = number(count, words, 2, 0.5);
    int status;

    for (int i = 0; i < children; i++)
        if (fork() == 0) {
            int error = touch_memory(mebibytes);

            if (error == 0)
                sleep_seconds(hold);
            _exit(error == 0 ? 0 : 3);
        }
    json_open('{');
    json_key("children");
    json_open('[');
    while (wait(&status) > 0)
        json_int(WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status));
    json_close();
    json_close();
    return 0;
}

/* Reserves address space without touching it, as Go, Node and the JVM do at their start. */
static int run_reserve(int count, char **words)
{
    size_t bytes = (size_t)number(count, words, 0, 1) << 20;
    void *block = malloc(bytes);

    json_open('{');
    say_errno("reserve", block == NULL ? ENOMEM : 0);
    json_close();
    free(block);
    return block == NULL ? 3 : 0;
}

static int run_flood(int count, char **words)
{
    static char block[1 << 16];
    long long bytes = (long long)number(count, words, 0, 1);
    int fd = (int)number(count, words, 1, 1);

    memset(block, 'x', sizeof block);
    while (bytes > 0) {
        ssize_t n =
            write(fd, block, bytes < (long long)sizeof block ? (size_t)bytes : sizeof block);

        if (n < 0)
            return errno == EPIPE ? 4 : 3;
        bytes -= n;
    }
    return 0;
}

static int run_print(int count, char **words)
{
    for (int i = 0; i < count; i++)
        (void)dprintf(1, "%s\n", words[i]);
    return 0;
}

static int run_cat(int count, char **words)
{
    static char block[1 << 16];
    ssize_t n;

    (void)count;
    (void)words;
    while ((n = read(0, block, sizeof block)) > 0)
        for (ssize_t at = 0, written; at < n; at += written)
            if ((written = write(1, block + at, (size_t)(n - at))) < 0)
                return 3;
    return n == 0 ? 0 : 4;
}

static int run_stdin(int count, char **words)
{
    static char block[1 << 16];
    long long bytes = 0;
    ssize_t n;

    (void)count;
    (void)words;
    while ((n = read(0, block, sizeof block)) > 0)
        bytes += n;
    json_open('{');
    say_int("bytes", bytes);
    say_errno("end", n == 0 ? 0 : errno);
    json_close();
    return 0;
}

/* Closes stdin unread and goes on. */
static int run_deaf(int count, char **words)
{
    (void)close(0);
    sleep_seconds(number(count, words, 0, 0.1));
    return 0;
}

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

/* Waits until all of them are there. */
static void *thread_body(void *argument)
{
    (void)pthread_mutex_lock(&gate);
    *(int *)argument += 1;
    (void)pthread_mutex_unlock(&gate);
    return NULL;
}

static int run_threads(int count, char **words)
{
    int wanted = (int)number(count, words, 0, 4);
    int made = 0, joined = 0, error = 0;
    pthread_t threads[128];
    int marks[128] = { 0 };

    (void)pthread_mutex_lock(&gate);
    for (; made < wanted && made < 128; made++)
        if ((error = pthread_create(&threads[made], NULL, thread_body, &marks[made])) != 0)
            break;
    (void)pthread_mutex_unlock(&gate);
    for (int i = 0; i < made; i++)
        joined += pthread_join(threads[i], NULL) == 0 && marks[i] == 1;
    json_open('{');
    say_int("made", made);
    say_int("joined", joined);
    say_errno("error", error);
    json_close();
    return joined == wanted ? 0 : 3;
}

const struct command end_commands[] = {
    { "exit", "CODE", run_exit },
    { "raise", "SIGNAL", run_raise },
    { "abort", "", run_abort },
    { "segv", "", run_segv },
    { "sleep", "SECONDS", run_sleep },
    { "announce", "SECONDS", run_announce },
    { "stop", "", run_stop },
    { "burn", "SECONDS", run_burn },
    { "burn-ignoring", "SECONDS", run_burn_ignoring },
    { "burn-children", "N SECONDS", run_burn_children },
    { "burn-relay", "EACH TOTAL", run_burn_relay },
    { "touch", "MEBIBYTES", run_touch },
    { "touch-children", "N MEBIBYTES [HOLD]", run_touch_children },
    { "reserve", "MEBIBYTES", run_reserve },
    { "flood", "BYTES [DESCRIPTOR]", run_flood },
    { "print", "WORD...", run_print },
    { "cat", "", run_cat },
    { "stdin", "", run_stdin },
    { "deaf", "SECONDS", run_deaf },
    { "threads", "N", run_threads },
    { NULL, NULL, NULL },
};
