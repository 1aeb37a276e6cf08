/* "attack": every attempt of the three tables, each in a child of its own, so that one that kills or
 * changes its process leaves the next one alone. */
#include "hostile.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct attack *const tables[] = { cage_attacks, identity_attacks, kernel_attacks };

struct report {
    volatile int done;
    volatile int result;
};

/* "escaped": it got what it wanted. "refused": an errno. "killed": a signal ended it. */
static void attempt(const struct attack *attack, struct report *report)
{
    int status = 0;
    pid_t child;

    report->done = 0;
    child = fork();
    if (child == 0) {
        (void)alarm(5);
        report->result = attack->run();
        report->done = 1;
        _exit(0);
    }
    json_key(attack->name);
    json_open('{');
    if (child < 0) {
        say_text("outcome", "not tried");
        say_errno("errno", errno);
    } else {
        (void)waitpid(child, &status, 0);
        if (!report->done) {
            say_text("outcome",
                     WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? "hung" : "killed");
            say_int("signal", WIFSIGNALED(status) ? WTERMSIG(status) : 0);
        } else if (report->result == 0) {
            say_text("outcome", "escaped");
        } else {
            say_text("outcome", "refused");
            say_errno("errno", -report->result);
        }
    }
    json_close();
}

static int run_attack(int count, char **words)
{
    struct report *report =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (report == MAP_FAILED)
        return 3;
    json_open('{');
    for (size_t t = 0; t < sizeof tables / sizeof tables[0]; t++)
        for (const struct attack *attack = tables[t]; attack->name != NULL; attack++) {
            bool wanted = count == 0;

            for (int i = 0; i < count; i++)
                wanted = wanted || strcmp(words[i], attack->name) == 0;
            if (wanted)
                attempt(attack, report);
        }
    json_close();
    return 0;
}

static int run_attack_names(int count, char **words)
{
    (void)count;
    (void)words;
    json_open('[');
    for (size_t t = 0; t < sizeof tables / sizeof tables[0]; t++)
        for (const struct attack *attack = tables[t]; attack->name != NULL; attack++)
            json_text(attack->name);
    json_close();
    return 0;
}

const struct command attack_commands[] = {
    { "attack", "[NAME...]", run_attack },
    { "attack-names", "", run_attack_names },
    { NULL, NULL, NULL },
};
