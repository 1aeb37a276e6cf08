/* Removing what a program has left: everything in the directory goes, and nothing else does. */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "../../csrc/linux/tree_remove.h"
#include "../../csrc/posix/fd.h"

static char place[64];

/* A directory with "top" and "outside" in it; returns top, open for reading. */
static int begin(void)
{
    (void)snprintf(place, sizeof(place), "/tmp/oxgen-tree-XXXXXX");
    if (mkdtemp(place) == NULL || chdir(place) < 0 || mkdir("top", 0700) < 0 ||
        mkdir("outside", 0700) < 0 || close(open("outside/kept", O_CREAT | O_WRONLY, 0640)) < 0)
        return -1;
    return open("top", O_RDONLY | O_DIRECTORY);
}

static int is_kept(void)
{
    struct stat what;

    return stat("outside/kept", &what) == 0 && (what.st_mode & 0777) == 0640;
}

static int end(int top)
{
    CHECK(is_kept());
    CHECK_EQUAL(close(top), 0);
    CHECK_EQUAL(unlink("outside/kept"), 0);
    CHECK_EQUAL(rmdir("outside"), 0);
    CHECK_EQUAL(rmdir("top"), 0); /* so it was empty */
    CHECK_EQUAL(rmdir(place), 0);
    return 0;
}

static int touch(const char *name)
{
    int fd = open(name, O_CREAT | O_WRONLY, 0600);

    return fd < 0 || close(fd) < 0 ? -1 : 0;
}

static int64_t soon(int64_t ms)
{
    return ox_now_ns() + ms * 1000000;
}

static int a_tree_of_any_depth_goes(void)
{
    /* A recursion over so many levels has neither the stack nor the descriptors. */
    const struct rlimit few = { 16, 16 }, small = { 256 * 1024, 256 * 1024 };
    int top = begin();

    CHECK(top >= 0);
    CHECK_EQUAL(chdir("top"), 0);
    for (int i = 0; i < 5000; i++) {
        CHECK_EQUAL(mkdir("d", 0700), 0);
        CHECK_EQUAL(mkdir("empty", 0700), 0);
        CHECK_EQUAL(chdir("d"), 0);
        CHECK_EQUAL(touch("file"), 0);
    }
    CHECK_EQUAL(chdir(place), 0);
    CHECK_EQUAL(setrlimit(RLIMIT_NOFILE, &few), 0);
    CHECK_EQUAL(setrlimit(RLIMIT_STACK, &small), 0);
    CHECK_EQUAL(ox_tree_empty(top, soon(50000)), 0);
    return end(top);
}

static int links_are_removed_and_not_followed(void)
{
    int top = begin();

    CHECK(top >= 0);
    CHECK_EQUAL(symlink("../outside", "top/link"), 0);
    CHECK_EQUAL(symlink("../outside/kept", "top/file"), 0);
    CHECK_EQUAL(mkdir("top/d", 0700), 0);
    CHECK_EQUAL(symlink("../../outside", "top/d/link"), 0);
    CHECK_EQUAL(link("outside/kept", "top/d/hard"), 0);
    CHECK_EQUAL(ox_tree_empty(top, soon(50000)), 0);
    return end(top);
}

static int closed_directories_go(void)
{
    int top = begin();

    CHECK(top >= 0);
    CHECK_EQUAL(mkdir("top/a", 0700), 0);
    CHECK_EQUAL(mkdir("top/a/b", 0700), 0);
    CHECK_EQUAL(mkdir("top/a/b/c", 0700), 0);
    CHECK_EQUAL(touch("top/a/b/c/file"), 0);
    CHECK_EQUAL(chmod("top/a/b/c", 0), 0);
    CHECK_EQUAL(chmod("top/a/b", 0), 0);
    CHECK_EQUAL(chmod("top/a", 0), 0);
    CHECK_EQUAL(ox_tree_empty(top, soon(50000)), 0);
    return end(top);
}

static int odd_names_go(void)
{
    static const char *const names[] = { "-rf", "\xff\xfe", "a\nb", " ", "*", "...", "oxgen-0" };
    char path[300];
    int top = begin();

    CHECK(top >= 0);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        (void)snprintf(path, sizeof(path), "top/%s", names[i]);
        CHECK_EQUAL(mkdir(path, 0700), 0);
        (void)snprintf(path, sizeof(path), "top/%s/%s", names[i], names[i]);
        CHECK_EQUAL(mkdir(path, 0700), 0);
        (void)snprintf(path, sizeof(path), "top/%s/%s/f", names[i], names[i]);
        CHECK_EQUAL(touch(path), 0);
    }
    memset(path, 'x', 260);
    memcpy(path, "top/", 4);
    path[4 + 255] = '\0';
    CHECK_EQUAL(touch(path), 0);
    CHECK_EQUAL(ox_tree_empty(top, soon(50000)), 0);
    return end(top);
}

static int names_that_a_program_took_do_not_stop_it(void)
{
    char path[64];
    int top = begin();

    CHECK(top >= 0);
    for (int i = 0; i < 40; i++) {
        (void)snprintf(path, sizeof(path), "top/oxgen-%x", (unsigned)i);
        CHECK_EQUAL(i % 2 == 0 ? touch(path) : mkdir(path, 0700), 0);
    }
    for (int i = 1; i < 40; i += 2) {
        (void)snprintf(path, sizeof(path), "top/oxgen-%x/d", (unsigned)i);
        CHECK_EQUAL(mkdir(path, 0700), 0);
        (void)snprintf(path, sizeof(path), "top/oxgen-%x/d/f", (unsigned)i);
        CHECK_EQUAL(touch(path), 0);
    }
    CHECK_EQUAL(ox_tree_empty(top, soon(50000)), 0);
    return end(top);
}

static int it_stops_at_its_deadline_and_goes_on_when_called_again(void)
{
    char path[64];
    int top = begin(), rounds = 0, r;

    CHECK(top >= 0);
    for (int i = 0; i < 200; i++) {
        (void)snprintf(path, sizeof(path), "top/%d", i);
        CHECK_EQUAL(touch(path), 0);
    }
    do {
        r = ox_tree_empty(top, ox_now_ns());
        CHECK(++rounds <= 201);
    } while (r == 1);
    CHECK_EQUAL(r, 0);
    CHECK(rounds >= 200);
    return end(top);
}

static int the_twin_that_follows_links_would_reach_outside(void)
{
    int top = begin();

    CHECK(top >= 0);
    CHECK_EQUAL(symlink("../outside", "top/link"), 0);
    /* By the path, as a careless removal goes. */
    CHECK_EQUAL(access("top/link/kept", F_OK), 0);
    CHECK_EQUAL(unlink("top/link/kept"), 0);
    CHECK(!is_kept());
    CHECK_EQUAL(touch("outside/kept"), 0);
    CHECK_EQUAL(chmod("outside/kept", 0640), 0);
    CHECK_EQUAL(ox_tree_empty(top, soon(50000)), 0);
    return end(top);
}

int main(int argc, char **argv)
{
    static const struct check_test tests[] = {
        TEST(a_tree_of_any_depth_goes),
        TEST(links_are_removed_and_not_followed),
        TEST(closed_directories_go),
        TEST(odd_names_go),
        TEST(names_that_a_program_took_do_not_stop_it),
        TEST(it_stops_at_its_deadline_and_goes_on_when_called_again),
        TEST(the_twin_that_follows_links_would_reach_outside),
    };

    return check_main(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
