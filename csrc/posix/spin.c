/* Spinning, and when not to: a thread that was preempted while it spun, or spun in vain, has held up
 * somebody who had work to do, perhaps the very program that it waits for. */
#include "spin.h"

#include "system.h"

#define LONGEST_NS INT64_C(1000000)
#define PAUSE_LEAST 4
#define PAUSE_MOST 64

static _Thread_local struct {
    long preemptions; /* when the spin began */
    unsigned pause;   /* so many runs are waited for asleep */
    unsigned next_pause;
} mine;

int64_t ox_spin_begin(int64_t now, int64_t wanted_ns)
{
    if (wanted_ns <= 0)
        return 0;
    if (mine.pause > 0) {
        mine.pause--;
        return 0;
    }
    mine.preemptions = ox_preemptions();
    return mine.preemptions < 0 ? 0 : now + (wanted_ns < LONGEST_NS ? wanted_ns : LONGEST_NS);
}

void ox_spin_end(int64_t until, int found)
{
    if (until == 0)
        return;
    if (found && ox_preemptions() == mine.preemptions) {
        mine.next_pause /= 2;
        return;
    }
    mine.next_pause *= 2;
    if (mine.next_pause < PAUSE_LEAST)
        mine.next_pause = PAUSE_LEAST;
    if (mine.next_pause > PAUSE_MOST)
        mine.next_pause = PAUSE_MOST;
    mine.pause = mine.next_pause;
}
