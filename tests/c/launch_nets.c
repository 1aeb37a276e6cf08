/* A network namespace that goes on from one cell to the next is as a new one, or it does not go on.
 * Needs root. */
#define _GNU_SOURCE 1

#include "launch_frame.h"
#include "launch_portrait.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/syscall.h>

static struct stage stage;
static struct ended *const ended = &stage.ended;
static struct ox_outcome *const outcome = &stage.ended.outcome;

static int two_new_network_namespaces_look_the_same(void)
{
    CHECK_EQUAL(differs_from_a_new_one(-1, NULL), 0);
    return 0;
}

/* What the probe's "trace" does. */
static void send_nowhere(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons(9),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    (void)sendto(fd, "x", 1, 0, (struct sockaddr *)&address, sizeof(address));
    (void)close(fd);
}

static void change_a_setting(void)
{
    int fd = open("/proc/sys/net/unix/max_dgram_qlen", O_WRONLY | O_CLOEXEC);

    (void)!write(fd, "77", 2);
}

/* The control of every test that finds no difference. */
static int a_trace_makes_a_difference(void)
{
    CHECK(differs_from_a_new_one(-1, send_nowhere) > 0);
    CHECK(differs_from_a_new_one(-1, change_a_setting) > 0);
    return 0;
}

/* --- network namespaces ----------------------------------------------------------------------- */

/* The network namespace of a cell; while it is open its number is nobody else's. */
static int open_net(const struct ox_cell *cell)
{
    char path[64];

    (void)snprintf(path, sizeof(path), "/proc/%d/ns/net", warden_of(cell));
    return open(path, O_RDONLY | O_CLOEXEC);
}

static int is_same(int one, int other)
{
    struct stat a, b;

    return fstat(one, &a) == 0 && fstat(other, &b) == 0 && a.st_ino == b.st_ino &&
           a.st_dev == b.st_dev;
}

/* Run the probe, end the cell, make another: 1 when it has the network namespace of the first. */
static int goes_on(const char *command, const char *word, const struct ox_run_spec *run)
{
    int first, second, r;

    if (run_once(&plain_cell, run, command, word, &stage) < 0)
        return -1;
    first = open_net(&stage.cell);
    if (bury_only_cell(&stage.launcher, &stage.cell) < 0 ||
        make(&stage.launcher, &plain_cell, &stage.cell) < 0)
        return -1;
    second = open_net(&stage.cell);
    r = first < 0 || second < 0 ? -1 : is_same(first, second);
    (void)close(first);
    (void)close(second);
    return r;
}

static int no_error_but(int expected)
{
    char text[32];

    (void)snprintf(text, sizeof(text), "error=%d\n", expected);
    CHECK_CLEAN(outcome);
    CHECK_TEXT(ended->out, text);
    return 0;
}

static int an_unused_network_namespace_goes_on(void)
{
    CHECK_EQUAL(goes_on("say", "nothing", &plain_run), 1);
    return strike(&stage);
}

static int a_name_of_the_cell_before_is_free(void)
{
    CHECK_EQUAL(goes_on("socket", "abstract", &plain_run), 1);
    CHECK_EQUAL(no_error_but(0), 0);
    CHECK_EQUAL(run_again(&stage, "socket", "abstract"), 0);
    CHECK_EQUAL(no_error_but(0), 0);
    return strike(&stage);
}

/* What is handed on after it: 1 when it is the same one. It is as a new one in any case. */
static int goes_on_as_new(const char *word)
{
    int r = goes_on("socket", word, &plain_run), net = open_net(&stage.cell);

    if (differs_from_a_new_one(net, NULL) != 0)
        r = -1;
    (void)close(net);
    return r;
}

/* Everything that can be done with AF_UNIX. */
static int a_storm_of_unix_sockets_leaves_nothing(void)
{
    CHECK_EQUAL(goes_on_as_new("storm"), 1);
    CHECK_EQUAL(no_error_but(0), 0);
    return strike(&stage);
}

/* In flight in each other: the kernel clears them away later, and until then it does not go on. */
static int sockets_that_nobody_holds_are_counted(void)
{
    int r = goes_on_as_new("cycle");

    CHECK(r == 0 || r == 1);
    CHECK_EQUAL(no_error_but(0), 0);
    fprintf(stderr, "%s\n", r == 1 ? "went on" : "did not go on");
    return strike(&stage);
}

static int does_not_go_on_after(const char *kind)
{
    CHECK_EQUAL(goes_on("socket", kind, &plain_run), 0);
    CHECK_EQUAL(no_error_but(0), 0);
    return strike(&stage);
}

static int a_network_namespace_that_saw_tcp_does_not_go_on(void)
{
    return does_not_go_on_after("inet");
}

static int a_network_namespace_that_saw_ipv6_does_not_go_on(void)
{
    return does_not_go_on_after("inet6");
}

/* There is none to be had. */
static int a_network_namespace_where_netlink_was_refused_goes_on(void)
{
    CHECK_EQUAL(goes_on("socket", "netlink", &plain_run), 1);
    CHECK_EQUAL(no_error_but(EAFNOSUPPORT), 0);
    return strike(&stage);
}

/* It is in flight to us, and so somebody's yet. */
static int a_network_namespace_with_a_socket_left_does_not_go_on(void)
{
    struct ox_run_spec run = plain_run;
    int pair[2];

    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    run.broker = pair[1];
    CHECK_EQUAL(goes_on("socket", "sent", &run), 0);
    CHECK_EQUAL(no_error_but(0), 0);
    return strike(&stage);
}

static int nor_with_one_made_by_a_thread(void)
{
    return does_not_go_on_after("thread");
}

static int nor_with_one_made_by_a_stray(void)
{
    return does_not_go_on_after("stray");
}

static int nor_with_one_made_under_a_filter_of_its_own(void)
{
    return does_not_go_on_after("own-filter");
}

static int nor_with_one_made_under_a_filter_that_asks_a_tracer(void)
{
    return does_not_go_on_after("own-trace");
}

static int nor_with_one_made_under_signals(void)
{
    return does_not_go_on_after("signals");
}

/* Killed for the call: no socket was made, and nothing waited for. */
static int calls_of_i386_do_not_reach_it(void)
{
    CHECK_EQUAL(goes_on_as_new("i386"), 1);
#ifdef __x86_64__
    CHECK_EQUAL(outcome->status & 0x7f, SIGSYS);
#endif
    return strike(&stage);
}

static int other_protocols_of_the_same_types_are_refused(void)
{
    CHECK_EQUAL(goes_on("socket", "mptcp", &plain_run), 1);
    CHECK_EQUAL(no_error_but(EPROTONOSUPPORT), 0);
    CHECK_EQUAL(run_again(&stage, "socket", "tcp"), 0);
    CHECK_EQUAL(no_error_but(0), 0);
    return strike(&stage);
}

/* Its leader ends, or the cell is destroyed, at any moment of its making sockets that leave traces:
 * what goes on is as new, whatever came first. */
static int traces_race_with_the_end(const char *word, int destroyed)
{
    int went_on = 0, first = -1, second;

    memset(&stage, 0, sizeof(stage));
    CHECK_EQUAL(start(&stage.launcher), 0);
    for (unsigned round = 0; round < 150; round++) {
        struct ox_run *run = NULL;

        CHECK_EQUAL(make(&stage.launcher, &plain_cell, &stage.cell), 0);
        second = open_net(&stage.cell);
        CHECK(second >= 0);
        if (first >= 0 && is_same(first, second)) {
            went_on++;
            CHECK_EQUAL(differs_from_a_new_one(second, NULL), 0);
        }
        (void)close(first);
        first = second;
        CHECK_EQUAL(start_run(&stage.cell, &plain_run, "socket", word, &run), 0);
        if (destroyed)
            (void)usleep(round * 37 % 1500);
        else
            CHECK_EQUAL(ox_run_step(run, 10000), OX_ENDED);
        ox_run_free(run);
        CHECK_EQUAL(bury_only_cell(&stage.launcher, &stage.cell), 0);
    }
    (void)close(first);
    fprintf(stderr, "%d of 149 went on\n", went_on);
    CHECK(went_on < 149);
    return strike(&stage);
}

static int a_leader_that_leaves_a_maker_of_sockets_behind(void)
{
    return traces_race_with_the_end("left-behind", 0);
}

static int a_cell_destroyed_while_sockets_are_made(void)
{
    return traces_race_with_the_end("traces", 1);
}

/* --- the launcher that takes note ------------------------------------------------------------- */

/* Nothing is made until it has taken note; the time of the run is bounded as ever. */
static int a_launcher_that_is_stopped_makes_them_wait(void)
{
    struct ox_run_spec run = plain_run;

    run.wall_ns = SECOND / 2;
    CHECK_EQUAL(run_once(&plain_cell, &plain_run, "say", "ready", &stage), 0);
    CHECK_EQUAL(kill(stage.launcher.pid, SIGSTOP), 0);
    CHECK_EQUAL(run_with(&stage.cell, &run, "socket", "trace", ended), 0);
    CHECK_EQUAL(outcome->cause, OX_CAUSE_TIMEOUT);
    CHECK_TEXT(ended->out, "");
    CHECK(ended->took_ns < 2 * SECOND);
    CHECK_EQUAL(kill(stage.launcher.pid, SIGCONT), 0);
    CHECK_EQUAL(run_again(&stage, "socket", "trace"), 0);
    CHECK_EQUAL(no_error_but(0), 0);
    return strike(&stage);
}

/* Its time is not the program's, and so there is little of it. */
static int too_many_at_once_wait(void)
{
    CHECK_EQUAL(run_once(&plain_cell, &plain_run, "socket", "count", &stage), 0);
    CHECK_EQUAL(no_error_but(0), 0);
    return strike(&stage);
}

/* Others get their cells while it takes note without an end. */
static int a_flood_of_sockets_holds_nobody_up(void)
{
    struct ox_run *run = NULL;
    struct ox_cell other;
    int64_t begun, quiet = 0, loud = 0;

    memset(&stage, 0, sizeof(stage));
    CHECK_EQUAL(start(&stage.launcher), 0);
    CHECK_EQUAL(make(&stage.launcher, &plain_cell, &stage.cell), 0);
    for (int i = 0; i < 2; i++) {
        if (i == 1)
            CHECK_EQUAL(start_run(&stage.cell, &plain_run, "socket", "flood", &run), 0);
        (void)usleep(100000);
        begun = now_ns();
        for (int n = 0; n < 50; n++) {
            CHECK_EQUAL(make(&stage.launcher, &plain_cell, &other), 0);
            CHECK_EQUAL(run_with(&other, &plain_run, "say", "mine", ended), 0);
            CHECK_EQUAL(ox_cell_destroy(&stage.launcher, &other), 0);
            CHECK_EQUAL(ox_cell_wait_gone(&other, WAIT_MS), 0);
        }
        quiet = i == 0 ? now_ns() - begun : quiet;
        loud = now_ns() - begun;
    }
    ox_run_free(run);
    fprintf(stderr, "us for a cell: %lld, beside a flood %lld\n", (long long)(quiet / 50000),
            (long long)(loud / 50000));
    CHECK(loud < 50 * quiet);
    return strike(&stage);
}

static const struct check_test tests[] = {
    TEST(two_new_network_namespaces_look_the_same),
    TEST(a_trace_makes_a_difference),
    TEST(an_unused_network_namespace_goes_on),
    TEST(a_name_of_the_cell_before_is_free),
    TEST(a_storm_of_unix_sockets_leaves_nothing),
    TEST(sockets_that_nobody_holds_are_counted),
    TEST(a_network_namespace_that_saw_tcp_does_not_go_on),
    TEST(a_network_namespace_that_saw_ipv6_does_not_go_on),
    TEST(a_network_namespace_where_netlink_was_refused_goes_on),
    TEST(a_network_namespace_with_a_socket_left_does_not_go_on),
    TEST(nor_with_one_made_by_a_thread),
    TEST(nor_with_one_made_by_a_stray),
    TEST(nor_with_one_made_under_a_filter_of_its_own),
    TEST(nor_with_one_made_under_a_filter_that_asks_a_tracer),
    TEST(nor_with_one_made_under_signals),
    TEST(calls_of_i386_do_not_reach_it),
    TEST(other_protocols_of_the_same_types_are_refused),
    TEST(a_leader_that_leaves_a_maker_of_sockets_behind),
    TEST(a_cell_destroyed_while_sockets_are_made),
    TEST(a_launcher_that_is_stopped_makes_them_wait),
    TEST(too_many_at_once_wait),
    TEST(a_flood_of_sockets_holds_nobody_up),
};

int main(int argc, char **argv)
{
    return check_main(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
