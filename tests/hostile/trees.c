/* Sub-commands that leave the process they were started as: orphans, daemons, hoppers, bombs. */
#include "hostile.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static double number(int count, char **words, int at, double otherwise)
{
    return at < count ? strtod(words[at], NULL) : otherwise;
}

/* N children that wait for ever; the leader tells how many there are and exits. */
static int run_fork(int count, char **words)
{
    int wanted = (int)number(count, words, 0, 1);
    double hold = number(count, words, 1, 0);
    int made = 0, error = 0;

    for (; made < wanted; made++) {
        pid_t child = fork();

        if (child < 0) {
            error = errno;
            break;
        }
        if (child == 0)
            for (;;)
                (void)pause();
    }
    json_open('{');
    say_int("made", made);
    say_errno("error", error);
    json_close();
    sleep_seconds(hold);
    return 0;
}

/* Everybody forks until the time is over. */
static int run_bomb(int count, char **words)
{
    double until = now_seconds() + number(count, words, 0, 1);
    int *forks = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t leader = getpid();

    if (forks == MAP_FAILED)
        return 3;
    while (now_seconds() < until)
        if (fork() == 0)
            (void)__atomic_add_fetch(forks, 1, __ATOMIC_RELAXED);
    if (getpid() != leader)
        for (;;)
            (void)pause();
    json_open('{');
    say_int("forks", __atomic_load_n(forks, __ATOMIC_RELAXED));
    json_close();
    return 0;
}

/* A grandchild in a session of its own keeps stdout and stderr open; the leader is done at once. */
static int run_orphan(int count, char **words)
{
    double seconds = number(count, words, 0, 30);

    if (fork() == 0) {
        (void)setsid();
        if (fork() == 0) {
            (void)signal(SIGTERM, SIG_IGN);
            (void)signal(SIGHUP, SIG_IGN);
            sleep_seconds(seconds);
            (void)!write(1, "late\n", 5);
        }
        _exit(0);
    }
    (void)wait(NULL);
    (void)!write(1, "done\n", 5);
    return 0;
}

/* The same with nothing left open, and the leader stays if asked to. */
static int run_daemonise(int count, char **words)
{
    double seconds = number(count, words, 0, 30);
    double stay = number(count, words, 1, 0);

    if (fork() == 0) {
        (void)setsid();
        if (fork() == 0) {
            for (int fd = 0; fd < 256; fd++)
                (void)close(fd);
            (void)chdir("/");
            sleep_seconds(seconds);
        }
        _exit(0);
    }
    (void)wait(NULL);
    sleep_seconds(stay);
    return 0;
}

/* A process that is somebody else every millisecond: kill by a list of pids never sees it. */
static int run_hop(int count, char **words)
{
    double seconds = number(count, words, 0, 30);
    double stay = number(count, words, 1, 0);
    double until = now_seconds() + seconds;

    if (fork() == 0) {
        (void)setsid();
        while (now_seconds() < until) {
            if (fork() > 0)
                _exit(0);
            sleep_seconds(0.001);
        }
        _exit(0);
    }
    sleep_seconds(stay);
    return 0;
}

/* The children become orphans, then zombies of whoever has to reap them; the leader lives on. */
static int run_zombies(int count, char **words)
{
    int wanted = (int)number(count, words, 0, 10);
    int made = 0, error = 0;

    for (; made < wanted; made++) {
        pid_t child = fork();

        if (child < 0) {
            error = errno;
            break;
        }
        if (child == 0) {
            if (fork() == 0)
                _exit(0);
            _exit(0);
        }
        (void)waitpid(child, NULL, 0);
    }
    json_open('{');
    say_int("made", made);
    say_errno("error", error);
    json_close();
    return 0;
}

static int run_kill_everyone(int count, char **words)
{
    int sig = (int)number(count, words, 0, SIGKILL);
    int result = kill(-1, sig);
    int error = result == 0 ? 0 : errno;

    json_open('{');
    say_errno("kill", error);
    json_close();
    return 0;
}

/* Every pid number that there can be in a cell, one by one. */
static int run_kill_each(int count, char **words)
{
    int highest = (int)number(count, words, 0, 400);
    int hit = 0;

    for (int pid = 1; pid <= highest; pid++)
        hit += pid != getpid() && kill(pid, SIGKILL) == 0;
    json_open('{');
    say_int("hit", hit);
    json_close();
    return 0;
}

const struct command tree_commands[] = {
    { "fork", "N [HOLD]", run_fork },
    { "bomb", "SECONDS", run_bomb },
    { "orphan", "SECONDS", run_orphan },
    { "daemonise", "SECONDS [STAY]", run_daemonise },
    { "hop", "SECONDS [STAY]", run_hop },
    { "zombies", "N", run_zombies },
    { "kill-everyone", "SIGNAL", run_kill_everyone },
    { "kill-each", "HIGHEST", run_kill_each },
    { NULL, NULL, NULL },
};
