/* What the C programs that launch share: they take orders on stdin, so that they can be measured in
 * turn with everything else.
 *
 *   "latency N"        launch N times, one after the other; answers N nanosecond counts, one line
 *   "throughput K MS"  keep K in flight for MS milliseconds; answers "COUNT NANOSECONDS"
 *   "probe"            run the probe where launches happen; answers what it wrote, one line
 *
 * A program that cannot launch prints "error: TEXT" instead, and ends. */
#ifndef ORDERS_H
#define ORDERS_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ORDER_MAX 100000

static int64_t now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* Launch once and wait for the end. Whatever goes wrong ends the program with fail(). */
typedef void launch_fn(void *context);

static void fail(const char *text)
{
    (void)printf("error: %s\n", text);
    (void)fflush(stdout);
    exit(1);
}

static void measure_latency(long count, launch_fn *launch, void *context)
{
    static int64_t taken[ORDER_MAX];

    for (long i = 0; i < count; i++) {
        int64_t begun = now_ns();

        launch(context);
        taken[i] = now_ns() - begun;
    }
    for (long i = 0; i < count; i++)
        (void)printf("%lld ", (long long)taken[i]);
    (void)putchar('\n');
}

typedef void throughput_fn(long in_flight, long milliseconds);
typedef void probe_fn(void *context);

/* What a program can do; NULL: such an order is an error. */
struct orders {
    launch_fn *launch;
    throughput_fn *throughput;
    probe_fn *probe;
};

/* Serve orders until stdin ends. */
static int serve_orders(const struct orders *known, void *context)
{
    char line[128];
    long first, second;

    while (fgets(line, sizeof(line), stdin) != NULL) {
        if (sscanf(line, "latency %ld", &first) == 1 && first > 0 && first <= ORDER_MAX)
            measure_latency(first, known->launch, context);
        else if (known->throughput != NULL &&
                 sscanf(line, "throughput %ld %ld", &first, &second) == 2)
            known->throughput(first, second);
        else if (known->probe != NULL && strcmp(line, "probe\n") == 0)
            known->probe(context);
        else
            fail("an order that is none");
        (void)fflush(stdout);
    }
    return 0;
}

#endif
