/* Refusals: an errno with words for people. */
#include "fail.h"

#include <stdio.h>
#include <string.h>

int ox_refuse(struct ox_problem *ret_problem, int stage, int r, const char *cause,
              const char *remedy)
{
    ret_problem->error = (struct ox_error){ stage, -r };
    (void)snprintf(ret_problem->cause, sizeof(ret_problem->cause), "%s: %s", cause, strerror(-r));
    (void)snprintf(ret_problem->remedy, sizeof(ret_problem->remedy), "%s", remedy);
    return r;
}
