/* The frame of the C tests: each test is a function that returns 0, and runs in a process of its own.
 *
 * PROGRAM           run all, one line each; exit status 1 when one failed
 * PROGRAM --list    names
 * PROGRAM NAME      run one; 0 passed, 77 not possible on this machine, anything else failed */
#ifndef OX_CHECK_H
#define OX_CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SKIPPED 77

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            return 1; \
        } \
    } while (0)

#define CHECK_EQUAL(actual, expected) \
    do { \
        long long actual_ = (long long)(actual); \
        long long expected_ = (long long)(expected); \
        if (actual_ != expected_) { \
            fprintf(stderr, "%s:%d: %s is %lld, expected %lld\n", __FILE__, __LINE__, #actual, \
                    actual_, expected_); \
            return 1; \
        } \
    } while (0)

struct check_test {
    const char *name;
    int (*run)(void);
};

#define TEST(function) \
    { \
#function, function \
    }

static int check_one(const struct check_test *test)
{
    int status = 0;
    pid_t pid;

    (void)fflush(NULL);
    pid = fork();
    if (pid == 0) {
        int r;

        (void)alarm(60);
        r = test->run();
        (void)fflush(NULL);
        _exit(r);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return 1;
    if (WIFSIGNALED(status)) {
        fprintf(stderr, "%s: ended by signal %d\n", test->name, WTERMSIG(status));
        return 1;
    }
    return WEXITSTATUS(status);
}

static int check_main(const struct check_test *tests, size_t count, int argc, char **argv)
{
    int failed = 0;

    if (argc > 1 && strcmp(argv[1], "--list") == 0) {
        for (size_t i = 0; i < count; i++)
            puts(tests[i].name);
        return 0;
    }
    for (size_t i = 0; i < count; i++) {
        int r;

        if (argc > 1 && strcmp(argv[1], tests[i].name) != 0)
            continue;
        r = check_one(&tests[i]);
        printf("%s %s\n", r == 0 ? "ok" : r == SKIPPED ? "skipped" : "FAILED", tests[i].name);
        if (argc > 1)
            return r;
        failed |= r != 0 && r != SKIPPED;
    }
    if (argc > 1) {
        fprintf(stderr, "no test %s\n", argv[1]);
        return 2;
    }
    return failed;
}

#endif
