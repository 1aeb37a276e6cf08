/* Where a thread runs. Each system answers in a file of its own. */
#ifndef OX_PLACE_H
#define OX_PLACE_H

/* As many processors as a mask of ours can name. */
#define OX_PROCESSORS_MAX 8192

struct ox_place {
    int processor; /* -1: not held */
    int changed;
    unsigned long before[OX_PROCESSORS_MAX / (8 * sizeof(unsigned long))];
    unsigned size; /* of before, in bytes */
};

/* Keep the calling thread on the processor that it runs on. Returns its number, -1 where that cannot
 * be done. */
int ox_place_hold(struct ox_place *place);

/* Let it go again, unless somebody else has moved it meanwhile. */
void ox_place_release(struct ox_place *place);

/* Let the calling thread run on this processor only; -1: on any. */
int ox_place_only(int processor);

#endif
