/* Spinning: only as long as it finds what it looks for and takes nobody's processor. */
#include "check.h"

#include <stdint.h>

#include "../../csrc/posix/spin.h"
#include "../../csrc/posix/system.h"

#define MS INT64_C(1000000)

/* In place of the system's: what the test says. */
static long preemptions;

long ox_preemptions(void)
{
    return preemptions;
}

/* How many runs are waited for asleep before the next one may be spun for. */
static int count_pause(void)
{
    int runs = 0;

    while (ox_spin_begin(MS, MS) == 0)
        runs++;
    return runs;
}

static int a_spin_is_bounded_and_can_be_declined(void)
{
    CHECK_EQUAL(ox_spin_begin(7 * MS, MS / 2), 7 * MS + MS / 2);
    ox_spin_end(1, 1);
    CHECK_EQUAL(ox_spin_begin(7 * MS, 60000 * MS), 8 * MS);
    ox_spin_end(1, 1);
    CHECK_EQUAL(ox_spin_begin(7 * MS, 0), 0);
    CHECK_EQUAL(ox_spin_begin(7 * MS, -5), 0);
    ox_spin_end(0, 0); /* did not spin: nothing is learned from it */
    CHECK_EQUAL(count_pause(), 0);
    ox_spin_end(1, 1);
    return 0;
}

static int a_thread_that_was_preempted_pauses_longer_each_time(void)
{
    int last = 0;

    for (int i = 0; i < 13; i++) {
        int pause;

        CHECK_EQUAL(ox_spin_begin(MS, MS) > 0, 1);
        preemptions++;
        ox_spin_end(1, 1);
        pause = count_pause();
        CHECK(pause == 64 ? last >= 32 : pause == (last == 0 ? 4 : 2 * last));
        last = pause;
        ox_spin_end(0, 0);
    }
    CHECK_EQUAL(last, 64);
    return 0;
}

static int one_that_found_nothing_pauses_and_success_shortens_the_next_pause(void)
{
    while (ox_spin_begin(MS, MS) == 0)
        continue;
    for (int i = 0; i < 16; i++)
        ox_spin_end(1, 1); /* forgets the pauses of the test before */
    ox_spin_end(1, 0);
    CHECK_EQUAL(count_pause(), 4);
    ox_spin_end(1, 0);
    CHECK_EQUAL(count_pause(), 8);
    ox_spin_end(1, 0);
    CHECK_EQUAL(count_pause(), 16);
    ox_spin_end(1, 1);
    CHECK_EQUAL(ox_spin_begin(MS, MS) > 0, 1);
    ox_spin_end(1, 0);
    CHECK_EQUAL(count_pause(), 16);
    return 0;
}

static int without_a_count_nobody_spins(void)
{
    ox_spin_end(1, 1);
    preemptions = -1;
    CHECK_EQUAL(ox_spin_begin(MS, MS), 0);
    return 0;
}

static const struct check_test tests[] = {
    TEST(a_spin_is_bounded_and_can_be_declined),
    TEST(a_thread_that_was_preempted_pauses_longer_each_time),
    TEST(one_that_found_nothing_pauses_and_success_shortens_the_next_pause),
    TEST(without_a_count_nobody_spins),
};

int main(int argc, char **argv)
{
    return check_main(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
