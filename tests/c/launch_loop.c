/* Many runs in one loop: each ends as it would alone, whatever its neighbours do. Needs root. */
#define _GNU_SOURCE 1

#include "launch_frame.h"

#include <poll.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define CELLS 4
#define FLOOD "4000000000"

static struct ox_launcher launcher;
static struct ox_cell cells[CELLS];
static struct ox_run *runs[CELLS];
static struct ox_outcome outcomes[CELLS];
static struct ox_loop *loop;

static int set_up(void)
{
    CHECK_EQUAL(start(&launcher), 0);
    for (int i = 0; i < CELLS; i++)
        CHECK_EQUAL(make(&launcher, &plain_cell, &cells[i]), 0);
    CHECK_EQUAL(ox_loop_open(&loop), 0);
    return 0;
}

static int take_down(void)
{
    ox_loop_free(loop);
    for (int i = 0; i < CELLS; i++) {
        ox_run_free(runs[i]);
        ox_cell_forget(&cells[i]);
    }
    return stop(&launcher);
}

static int begin(int i, const struct ox_run_spec *spec, const char *command, const char *word)
{
    CHECK_EQUAL(start_run(&cells[i], spec, command, word, &runs[i]), 0);
    CHECK_EQUAL(ox_loop_add(loop, runs[i], (uint64_t)i), 0);
    return 0;
}

/* The next run that is news, -1 when there is none for that long. */
static int next_news(double seconds, int *ret_progress)
{
    int64_t until = now_ns() + (int64_t)(seconds * (double)SECOND);
    struct ox_news news;
    int r;

    do
        r = ox_loop_step(loop, 50, &news, 1);
    while (r == 0 && now_ns() < until);
    if (r != 1)
        return -1;
    *ret_progress = news.progress;
    ox_run_outcome(runs[news.token], &outcomes[news.token]);
    return (int)news.token;
}

/* The next run that ends. */
static int next_end(double seconds)
{
    int progress = 0, i = next_news(seconds, &progress);

    return i >= 0 && progress != OX_ENDED ? -2 : i;
}

static int finish_run(int i)
{
    ox_run_free(runs[i]);
    runs[i] = NULL;
    return 0;
}

static int64_t cpu_of_this_process(void)
{
    struct timespec used;

    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (int64_t)used.tv_sec * SECOND + used.tv_nsec;
}

static int open_descriptors(void)
{
    DIR *directory = opendir("/proc/self/fd");
    int count = 0;

    while (readdir(directory) != NULL)
        count++;
    (void)closedir(directory);
    return count;
}

/* --- output and input ------------------------------------------------------------------------- */

static int each_run_has_its_own_output(void)
{
    int before;

    CHECK_EQUAL(set_up(), 0);
    before = open_descriptors();
    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < CELLS; i++) {
            char word[16];

            (void)snprintf(word, sizeof(word), "%d.%d", round, i);
            CHECK_EQUAL(begin(i, &plain_run, "say", word), 0);
        }
        for (int left = CELLS; left > 0; left--) {
            int i = next_end(10);
            char expected[16];
            uint64_t size;

            CHECK(i >= 0);
            (void)snprintf(expected, sizeof(expected), "%d.%d\n", round, i);
            CHECK_CLEAN(&outcomes[i]);
            CHECK(memcmp(ox_run_captured(runs[i], 1, &size), expected, strlen(expected)) == 0);
            CHECK_EQUAL(size, strlen(expected));
            CHECK_EQUAL(finish_run(i), 0);
        }
    }
    CHECK_EQUAL(open_descriptors(), before);
    return take_down();
}

static int output_beyond_a_pipe_arrives(void)
{
    uint64_t size;

    CHECK_EQUAL(set_up(), 0);
    for (int i = 0; i < CELLS; i++)
        CHECK_EQUAL(begin(i, &plain_run, "flood", "700000"), 0);
    for (int left = CELLS; left > 0; left--) {
        int i = next_end(10);

        CHECK(i >= 0);
        CHECK_CLEAN(&outcomes[i]);
        (void)ox_run_captured(runs[i], 1, &size);
        CHECK_EQUAL(size, 700000);
        CHECK_EQUAL(outcomes[i].truncated, 0);
    }
    return take_down();
}

static int input_beyond_a_pipe_arrives_and_ends(void)
{
    static char input[400000];
    struct ox_run_spec run = plain_run;
    uint64_t size;

    memset(input, 'i', sizeof(input));
    run.streams[0].mode = OX_STREAM_CAPTURE;
    run.input = input;
    run.input_size = sizeof(input);
    CHECK_EQUAL(set_up(), 0);
    CHECK_EQUAL(begin(0, &run, "copy", ""), 0);
    run.input_size = 5;
    CHECK_EQUAL(begin(1, &run, "copy", ""), 0);
    CHECK_EQUAL(begin(2, &run, "exit", "3"), 0); /* does not want it */
    for (int left = 3; left > 0; left--)
        CHECK(next_end(10) >= 0);
    CHECK_CLEAN(&outcomes[0]);
    (void)ox_run_captured(runs[0], 1, &size);
    CHECK_EQUAL(size, sizeof(input));
    CHECK(memcmp(ox_run_captured(runs[1], 1, &size), "iiiii", 5) == 0);
    CHECK_EQUAL(size, 5);
    CHECK_EQUAL(outcomes[2].status, W_EXITCODE(3, 0));
    return take_down();
}

/* Two runs copy on to one descriptor; the third to a file, which epoll refuses. */
static int sinks_may_be_shared_and_may_be_files(void)
{
    struct ox_run_spec run = plain_run;
    FILE *file = tmpfile();
    char text[8192];
    int pipes[2];
    ssize_t n = 0, more;

    CHECK_EQUAL(pipe2(pipes, O_CLOEXEC), 0);
    CHECK(file != NULL);
    CHECK_EQUAL(set_up(), 0);
    run.streams[1] = (struct ox_stream){ .mode = OX_STREAM_COPY, .fd = pipes[1] };
    CHECK_EQUAL(begin(0, &run, "flood", "3000"), 0);
    CHECK_EQUAL(begin(1, &run, "flood", "3000"), 0);
    run.streams[1].fd = fileno(file);
    CHECK_EQUAL(begin(2, &run, "flood", "100000"), 0);
    for (int left = 3; left > 0; left--) {
        int i = next_end(10);

        CHECK(i >= 0);
        CHECK_CLEAN(&outcomes[i]);
        CHECK_EQUAL(ox_run_flush(runs[i], 5000), 1);
    }
    (void)close(pipes[1]);
    while ((more = read(pipes[0], text, sizeof(text))) > 0)
        n += more;
    CHECK_EQUAL(n, 6000);
    CHECK_EQUAL(lseek(fileno(file), 0, SEEK_END), 100000);
    return take_down();
}

/* No descriptor is left to watch the output with. */
static int a_run_that_cannot_be_watched_ends_well(void)
{
    struct rlimit few, before;
    uint64_t size;

    CHECK_EQUAL(set_up(), 0);
    CHECK_EQUAL(getrlimit(RLIMIT_NOFILE, &before), 0);
    CHECK_EQUAL(begin(0, &plain_run, "flood", "300000"), 0);
    few = before;
    few.rlim_cur = 10;
    CHECK_EQUAL(setrlimit(RLIMIT_NOFILE, &few), 0);
    CHECK_EQUAL(next_end(10), 0);
    CHECK_EQUAL(setrlimit(RLIMIT_NOFILE, &before), 0);
    CHECK_CLEAN(&outcomes[0]);
    (void)ox_run_captured(runs[0], 1, &size);
    CHECK_EQUAL(size, 300000);
    return take_down();
}

/* --- limits ----------------------------------------------------------------------------------- */

static int a_deadline_holds_beside_floods(void)
{
    struct ox_run_spec run = plain_run;
    int progress = 0;

    CHECK_EQUAL(set_up(), 0);
    CHECK_EQUAL(begin(0, &run, "flood", FLOOD), 0);
    CHECK_EQUAL(begin(1, &run, "flood", FLOOD), 0);
    CHECK_EQUAL(begin(2, &run, "flood", FLOOD), 0);
    run.wall_ns = SECOND / 2;
    CHECK_EQUAL(begin(3, &run, "sleep", ""), 0);
    CHECK_EQUAL(next_news(10, &progress), 3);
    CHECK_EQUAL(outcomes[3].cause, OX_CAUSE_TIMEOUT);
    CHECK(outcomes[3].wall_ns >= SECOND / 2 && outcomes[3].wall_ns < 2 * SECOND);
    return take_down();
}

static int cpu_time_is_limited_beside_floods(void)
{
    struct ox_run_spec run = plain_run;
    int progress = 0;

    CHECK_EQUAL(set_up(), 0);
    CHECK_EQUAL(begin(0, &run, "flood", FLOOD), 0);
    CHECK_EQUAL(begin(1, &run, "flood", FLOOD), 0);
    run.cpu_ns = SECOND / 4;
    CHECK_EQUAL(begin(2, &run, "burn", "2"), 0);
    CHECK_EQUAL(next_news(20, &progress), 2);
    CHECK_EQUAL(outcomes[2].cause, OX_CAUSE_CPU);
    CHECK(outcomes[2].cpu_ns >= SECOND / 4 && outcomes[2].cpu_ns < SECOND);
    return take_down();
}

static int a_program_that_hangs_delays_nobody(void)
{
    struct ox_run_spec run = plain_run;
    int64_t begun;

    CHECK_EQUAL(set_up(), 0);
    CHECK_EQUAL(begin(0, &run, "stop", ""), 0);
    CHECK_EQUAL(begin(1, &run, "sleep", ""), 0);
    begun = now_ns();
    for (int i = 0; i < 100; i++) {
        CHECK_EQUAL(begin(2, &run, "exit", "0"), 0);
        CHECK_EQUAL(next_end(10), 2);
        CHECK_CLEAN(&outcomes[2]);
        CHECK_EQUAL(finish_run(2), 0);
    }
    CHECK(now_ns() - begun < 5 * SECOND);
    return take_down();
}

/* A warden that does not answer: the loop kills its cell, and the others go on. */
static int a_stopped_warden_costs_its_own_run_only(void)
{
    struct ox_run_spec run = plain_run;
    int progress = 0;

    CHECK_EQUAL(set_up(), 0);
    run.wall_ns = SECOND / 2;
    CHECK_EQUAL(begin(0, &run, "sleep", ""), 0);
    CHECK_EQUAL(begin(1, &plain_run, "sleep", ""), 0);
    CHECK_EQUAL(next_news(0.1, &progress), -1);
    CHECK_EQUAL(syscall(SYS_pidfd_send_signal, cells[0].pidfd, SIGSTOP, NULL, 0), 0);
    CHECK_EQUAL(next_end(5), 0);
    CHECK_EQUAL(outcomes[0].cause, OX_CAUSE_TIMEOUT);
    CHECK_EQUAL(outcomes[0].lost, 1);
    CHECK(outcomes[0].wall_ns < 2 * SECOND);
    CHECK_EQUAL(ox_loop_cancel(loop, 1), 0);
    CHECK_EQUAL(next_end(5), 1);
    CHECK_EQUAL(outcomes[1].emptied, 1);
    return take_down();
}

/* --- news, cancelling, waking ----------------------------------------------------------------- */

static int what_is_cancelled_ends_and_the_rest_goes_on(void)
{
    int progress = 0;

    CHECK_EQUAL(set_up(), 0);
    for (int i = 0; i < CELLS; i++)
        CHECK_EQUAL(begin(i, &plain_run, "stray", "word"), 0);
    for (int left = CELLS; left > 0; left--)
        CHECK(next_end(10) >= 0);
    for (int i = 0; i < CELLS; i++) {
        CHECK_EQUAL(finish_run(i), 0);
        CHECK_EQUAL(begin(i, &plain_run, "burn", "2"), 0);
    }
    CHECK_EQUAL(next_news(0.1, &progress), -1);
    CHECK_EQUAL(ox_loop_cancel(loop, 2), 0);
    CHECK_EQUAL(next_end(5), 2);
    CHECK_EQUAL(outcomes[2].cause, OX_CAUSE_CANCELLED);
    CHECK_EQUAL(outcomes[2].status, SIGKILL);
    CHECK_EQUAL(outcomes[2].emptied, 1);
    CHECK_EQUAL(ox_loop_cancel(loop, 2), -ENOENT);
    CHECK_EQUAL(next_news(0.1, &progress), -1);
    return take_down();
}

static int a_run_that_was_cancelled_before_it_came_ends(void)
{
    CHECK_EQUAL(set_up(), 0);
    CHECK_EQUAL(start_run(&cells[0], &plain_run, "sleep", "", &runs[0]), 0);
    ox_run_cancel(runs[0]);
    CHECK_EQUAL(ox_loop_add(loop, runs[0], 0), 0);
    CHECK_EQUAL(next_end(5), 0);
    CHECK_EQUAL(outcomes[0].cause, OX_CAUSE_CANCELLED);
    return take_down();
}

static void *cancel_from_elsewhere(void *run)
{
    (void)usleep(200000);
    ox_run_cancel(run);
    (void)ox_loop_wake(loop);
    return NULL;
}

static int another_thread_cancels_and_wakes(void)
{
    struct ox_news news;
    pthread_t thread;

    CHECK_EQUAL(set_up(), 0);
    for (int i = 0; i < CELLS; i++)
        CHECK_EQUAL(begin(i, &plain_run, "sleep", ""), 0);
    CHECK_EQUAL(pthread_create(&thread, NULL, cancel_from_elsewhere, runs[3]), 0);
    CHECK_EQUAL(ox_loop_step(loop, -1, &news, 1), 0); /* woken */
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    CHECK_EQUAL(next_end(5), 3);
    CHECK_EQUAL(outcomes[3].cause, OX_CAUSE_CANCELLED);
    return take_down();
}

static int a_start_is_news_once_and_the_run_may_come_back(void)
{
    struct ox_run_spec run = plain_run;
    int progress = 0;

    CHECK_EQUAL(set_up(), 0);
    run.confirm = 1;
    CHECK_EQUAL(begin(0, &run, "sleep", ""), 0);
    CHECK_EQUAL(next_news(5, &progress), 0);
    CHECK_EQUAL(progress, OX_STARTED);
    CHECK_EQUAL(ox_loop_add(loop, runs[0], 0), 0);
    CHECK_EQUAL(next_news(0.2, &progress), -1);
    CHECK_EQUAL(ox_loop_cancel(loop, 0), 0);
    CHECK_EQUAL(next_end(5), 0);
    return take_down();
}

static int a_small_array_gets_the_rest_with_the_next_call(void)
{
    struct ox_news news[CELLS];

    CHECK_EQUAL(set_up(), 0);
    for (int i = 0; i < CELLS; i++) {
        CHECK_EQUAL(start_run(&cells[i], &plain_run, "exit", "0", &runs[i]), 0);
        CHECK_EQUAL(ox_run_step(runs[i], 5000), OX_ENDED);
        CHECK_EQUAL(ox_loop_add(loop, runs[i], (uint64_t)i), 0);
    }
    CHECK_EQUAL(ox_loop_step(loop, -1, news, 3), 3);
    CHECK_EQUAL(ox_loop_step(loop, -1, news, 3), 1);
    CHECK_EQUAL(news[0].token, 3);
    CHECK_EQUAL(ox_loop_step(loop, 0, news, 3), 0);
    return take_down();
}

/* --- its descriptor --------------------------------------------------------------------------- */

static int is_readable(int wait_ms)
{
    struct pollfd wanted = { .fd = ox_loop_fd(loop), .events = POLLIN };

    return poll(&wanted, 1, wait_ms);
}

static int the_descriptor_is_readable_when_there_is_something_to_do(void)
{
    struct ox_run_spec run = plain_run;
    struct ox_news news;
    int64_t begun = now_ns();
    int looks = 0;

    CHECK_EQUAL(set_up(), 0);
    CHECK_EQUAL(is_readable(0), 0);
    run.wall_ns = SECOND / 2;
    CHECK_EQUAL(begin(0, &run, "sleep", ""), 0);
    /* Nobody steps but when it says so. */
    while (is_readable(5000) == 1 && ox_loop_step(loop, 0, &news, 1) == 0)
        looks++;
    ox_run_outcome(runs[0], &outcomes[0]);
    CHECK_EQUAL(outcomes[0].cause, OX_CAUSE_TIMEOUT);
    CHECK(now_ns() - begun < 3 * SECOND);
    CHECK(looks < 20);
    CHECK_EQUAL(is_readable(0), 0);
    CHECK_EQUAL(ox_loop_wake(loop), 0);
    CHECK_EQUAL(is_readable(0), 1);
    CHECK_EQUAL(ox_loop_step(loop, -1, &news, 1), 0);
    CHECK_EQUAL(is_readable(0), 0);
    return take_down();
}

/* A forked child holds copies of every descriptor: epoll goes on reporting a pipe that the host has
 * closed, unless it was taken out before. */
static int copies_in_a_child_keep_nothing_busy(void)
{
    int progress = 0;
    int64_t used;
    pid_t child;

    CHECK_EQUAL(set_up(), 0);
    CHECK_EQUAL(begin(0, &plain_run, "flood", FLOOD), 0);
    CHECK_EQUAL(begin(1, &plain_run, "sleep", ""), 0);
    CHECK_EQUAL(next_news(0.02, &progress), -1);
    child = fork();
    if (child == 0)
        (void)pause();
    CHECK_EQUAL(ox_loop_cancel(loop, 0), 0);
    CHECK_EQUAL(next_end(10), 0);
    CHECK_EQUAL(finish_run(0), 0);
    CHECK_EQUAL(ox_loop_cancel(loop, 1), 0);
    CHECK_EQUAL(next_end(10), 1);
    used = cpu_of_this_process();
    CHECK_EQUAL(next_news(0.5, &progress), -1);
    CHECK(cpu_of_this_process() - used < SECOND / 20);
    CHECK_EQUAL(kill(child, SIGKILL), 0);
    CHECK_EQUAL(waitpid(child, NULL, 0), child);
    return take_down();
}

static int a_child_that_frees_its_copy_does_not_disturb(void)
{
    int progress = 0, status = -1;
    pid_t child;

    CHECK_EQUAL(set_up(), 0);
    CHECK_EQUAL(begin(0, &plain_run, "sleep", ""), 0);
    CHECK_EQUAL(next_news(0.05, &progress), -1);
    child = fork();
    if (child == 0) {
        ox_loop_free(loop);
        _exit(0);
    }
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
    CHECK_EQUAL(ox_loop_cancel(loop, 0), 0);
    CHECK_EQUAL(next_end(5), 0);
    CHECK_EQUAL(outcomes[0].cause, OX_CAUSE_CANCELLED);
    return take_down();
}

static int a_loop_that_is_freed_leaves_no_descriptor(void)
{
    struct ox_run_spec run = plain_run;
    int before = open_descriptors(), progress = 0;

    CHECK_EQUAL(set_up(), 0);
    for (int i = 0; i < CELLS; i++)
        CHECK_EQUAL(begin(i, &run, "flood", FLOOD), 0);
    CHECK_EQUAL(next_news(0.05, &progress), -1);
    CHECK_EQUAL(take_down(), 0);
    CHECK_EQUAL(open_descriptors(), before);
    return 0;
}

static const struct check_test tests[] = {
    TEST(each_run_has_its_own_output),
    TEST(output_beyond_a_pipe_arrives),
    TEST(input_beyond_a_pipe_arrives_and_ends),
    TEST(sinks_may_be_shared_and_may_be_files),
    TEST(a_run_that_cannot_be_watched_ends_well),
    TEST(a_deadline_holds_beside_floods),
    TEST(cpu_time_is_limited_beside_floods),
    TEST(a_program_that_hangs_delays_nobody),
    TEST(a_stopped_warden_costs_its_own_run_only),
    TEST(what_is_cancelled_ends_and_the_rest_goes_on),
    TEST(a_run_that_was_cancelled_before_it_came_ends),
    TEST(another_thread_cancels_and_wakes),
    TEST(a_start_is_news_once_and_the_run_may_come_back),
    TEST(a_small_array_gets_the_rest_with_the_next_call),
    TEST(the_descriptor_is_readable_when_there_is_something_to_do),
    TEST(copies_in_a_child_keep_nothing_busy),
    TEST(a_child_that_frees_its_copy_does_not_disturb),
    TEST(a_loop_that_is_freed_leaves_no_descriptor),
};

int main(int argc, char **argv)
{
    return check_main(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
