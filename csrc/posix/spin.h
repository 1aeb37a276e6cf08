/* Waiting without sleeping, where that costs nobody anything. State of the calling thread. */
#ifndef OX_SPIN_H
#define OX_SPIN_H

#include "../core.h"

/* Until when (ox_now_ns) the thread may spin that wants to from now on for so long; 0: not at all,
 * as others have lately wanted its processor meanwhile. */
int64_t ox_spin_begin(int64_t now, int64_t wanted_ns);

/* It has stopped, and found what it looked for or not; nothing if until is 0. */
void ox_spin_end(int64_t until, int found);

#endif
