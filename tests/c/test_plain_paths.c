/* What programs without a root of their own are told of their places. */
#include "check.h"

#include <errno.h>

#include "../../csrc/linux/plain_paths.h"

static int a_program_and_its_places_get_the_prefix(void)
{
    struct ox_step_plan plan = { .path = "/bin/scan", .cwd = "/workspace" };
    char *strings[] = { (char *)"/bin/scan",         (char *)"/tmp/argument", NULL,
                        (char *)"HOME=/home/plugin", (char *)"PATH=/bin",     (char *)"TMPDIR=/tmp",
                        (char *)"OTHER=/tmp",        (char *)"TMP=relative",  NULL };

    CHECK_EQUAL(ox_paths_prefix("/run/x", "/bin/scan", &plan, strings), 0);
    CHECK(strcmp(plan.path, "/run/x/bin/scan") == 0);
    CHECK(strcmp(plan.cwd, "/run/x/workspace") == 0);
    /* Arguments are the caller's. */
    CHECK(strcmp(strings[0], "/bin/scan") == 0);
    CHECK(strcmp(strings[1], "/tmp/argument") == 0);
    CHECK(strcmp(strings[3], "HOME=/run/x/home/plugin") == 0);
    CHECK(strcmp(strings[4], "PATH=/run/x/bin") == 0);
    CHECK(strcmp(strings[5], "TMPDIR=/run/x/tmp") == 0);
    CHECK(strcmp(strings[6], "OTHER=/tmp") == 0);
    CHECK(strcmp(strings[7], "TMP=relative") == 0);
    return 0;
}

static int a_script_is_found_behind_its_interpreter(void)
{
    struct ox_step_plan plan = { .path = "/bin/python3", .cwd = "/tmp" };
    char *strings[] = { (char *)"/bin/python3", (char *)"-I", (char *)"/bin/script",
                        (char *)"/bin/script",  NULL,         NULL };

    CHECK_EQUAL(ox_paths_prefix("/run/x", "/bin/script", &plan, strings), 0);
    CHECK(strcmp(plan.path, "/bin/python3") == 0);
    CHECK(strcmp(strings[0], "/bin/python3") == 0);
    CHECK(strcmp(strings[2], "/run/x/bin/script") == 0);
    CHECK(strcmp(strings[3], "/bin/script") == 0);
    return 0;
}

static int a_path_that_is_too_long_is_refused(void)
{
    static char prefix[20000];
    struct ox_step_plan plan = { .path = "/bin/scan", .cwd = "/workspace" };
    char *strings[] = { (char *)"scan", NULL, NULL };

    memset(prefix, 'x', sizeof(prefix) - 1);
    CHECK_EQUAL(ox_paths_prefix(prefix, "/bin/scan", &plan, strings), -ENAMETOOLONG);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct check_test tests[] = {
        TEST(a_program_and_its_places_get_the_prefix),
        TEST(a_script_is_found_behind_its_interpreter),
        TEST(a_path_that_is_too_long_is_refused),
    };

    return check_main(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
