/* What the two files of the warden share. */
#ifndef OX_GROUND_H
#define OX_GROUND_H

#include "warden.h"

/* What the warden of this process stands on. */
extern struct ox_ground *ox_ground;

/* 1: it is pid 1 of a cell of level namespaces. */
int ox_ground_is_namespaces(void);

/* The OOM score of a warden between launches. */
const char *ox_ground_calm_score(void);

#endif
