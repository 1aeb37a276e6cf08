/* Many runs in one thread: epoll for their descriptors, a heap for their clocks. */
#include "../core.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "../posix/fd.h"
#include "../posix/heap.h"
#include "../posix/run.h"
#include "../posix/sigpipe.h"

/* What one round takes up before it looks at the clocks again: each run reads a bounded piece. */
#define ROUND_EVENTS 64
/* Most runs are over before that. What they write waits in their pipes, which are read at the end
 * anyway, so only the warden's socket is watched at first. */
#define ALONE_NS (2 * OX_MS)
/* How often a run is looked at whose descriptors could not be watched: too many of them are open,
 * or the sink is a regular file, which epoll refuses. */
#define BLIND_NS (4 * OX_MS)

/* One descriptor of a run. epoll forgets a closed descriptor only when its last copy is closed, and
 * a process that the host has forked off may hold one. The run closes its streams as it likes, so
 * what epoll knows is a copy of ours, which is taken out before it is closed. */
struct eye {
    struct item *item;
    int slot;
    int fd; /* -1: none yet */
    int open;
};

struct item {
    struct ox_run *run;
    uint64_t token;
    int progress;
    struct ox_due due; /* when the run wants to be looked at */
    int watched;       /* not only the warden's socket */
    int blind;
    int ready;
    struct item *next; /* in the list of those that are ready, or of those that are news */
    struct eye eyes[OX_RUN_EVENTS];
    struct pollfd events[OX_RUN_EVENTS]; /* revents: what epoll has said since the last look */
};

struct queue {
    struct item *first;
    struct item **last;
};

struct ox_loop {
    int epoll;
    int wake;
    int timer;
    int timer_used; /* somebody polls the epoll descriptor */
    int64_t alarm;  /* when timer fires; OX_NEVER: it is off */
    int writers;    /* runs that write to pipes */
    struct ox_heap heap;
    struct queue news;
};

static void push(struct queue *queue, struct item *item)
{
    item->next = NULL;
    *queue->last = item;
    queue->last = &item->next;
}

static struct item *pop(struct queue *queue)
{
    struct item *item = queue->first;

    if (item == NULL)
        return NULL;
    queue->first = item->next;
    if (queue->first == NULL)
        queue->last = &queue->first;
    return item;
}

/* Of the runs in the loop. */
static struct item *at(const struct ox_loop *loop, size_t place)
{
    return (struct item *)((char *)loop->heap.members[place] - offsetof(struct item, due));
}

/* --- what epoll watches of a run -------------------------------------------------------------- */

static void shut(const struct ox_loop *loop, struct eye *eye)
{
    if (eye->open)
        (void)epoll_ctl(loop->epoll, EPOLL_CTL_DEL, eye->fd, NULL);
    eye->open = 0;
}

static void look(const struct ox_loop *loop, struct eye *eye, const struct pollfd *wanted)
{
    struct epoll_event event = { .events = (uint32_t)wanted->events, .data.ptr = eye };

    if (eye->open || eye->item->blind)
        return;
    if (eye->fd < 0)
        eye->fd = eye->slot == OX_RUN_SOCKET ? wanted->fd : fcntl(wanted->fd, F_DUPFD_CLOEXEC, 0);
    if (eye->fd < 0 || epoll_ctl(loop->epoll, EPOLL_CTL_ADD, eye->fd, &event) < 0)
        eye->item->blind = 1;
    else
        eye->open = 1;
}

/* Whether the run has closed this stream for good; one that only waits for another is not closed. */
static int is_closed(const struct ox_run *run, int slot)
{
    switch (slot) {
    case OX_RUN_INPUT: return run->input < 0;
    case OX_RUN_OUTPUT:
    case OX_RUN_OUTPUT + 1: return run->outputs[slot - OX_RUN_OUTPUT].source < 0;
    default: return 0;
    }
}

/* Afterwards epoll watches what the run waits for. A copy of a closed input must go at once, or its
 * program never sees the end of the input. */
static void keep_in_step(struct ox_loop *loop, struct item *item)
{
    ox_run_poll_set(item->run, item->events);
    look(loop, &item->eyes[OX_RUN_SOCKET], &item->events[OX_RUN_SOCKET]);
    for (int slot = OX_RUN_SOCKET + 1; item->watched && slot < OX_RUN_EVENTS; slot++) {
        struct eye *eye = &item->eyes[slot];

        if (item->events[slot].fd >= 0) {
            look(loop, eye, &item->events[slot]);
            continue;
        }
        shut(loop, eye);
        if (is_closed(item->run, slot))
            ox_close(&eye->fd);
    }
}

static void close_eyes(const struct ox_loop *loop, struct item *item)
{
    for (int slot = 0; slot < OX_RUN_EVENTS; slot++) {
        shut(loop, &item->eyes[slot]);
        if (slot != OX_RUN_SOCKET)
            ox_close(&item->eyes[slot].fd);
    }
}

/* --- one run ---------------------------------------------------------------------------------- */

static void leave(struct ox_loop *loop, struct item *item, int progress)
{
    close_eyes(loop, item);
    ox_heap_remove(&loop->heap, &item->due);
    loop->writers -= item->run->writes;
    item->progress = progress;
    push(&loop->news, item);
}

static void go_on_watching(struct ox_loop *loop, struct item *item, int64_t now)
{
    int64_t due = ox_run_next_ns(item->run);
    int64_t alone_until = item->run->begun + ALONE_NS;

    if (!item->watched && now >= alone_until)
        item->watched = 1;
    keep_in_step(loop, item);
    if (!item->watched && alone_until < due)
        due = alone_until;
    if (item->blind && now + BLIND_NS < due)
        due = now + BLIND_NS;
    ox_heap_set(&loop->heap, &item->due, due);
}

static void advance(struct ox_loop *loop, struct item *item)
{
    int r;

    if (item->blind)
        (void)poll(item->events, OX_RUN_EVENTS, 0);
    r = ox_run_advance(item->run, item->events);
    if (r < 0) {
        item->run->outcome.lost = 1; /* it cannot be watched any more */
        item->run->ended = 1;
        r = OX_ENDED;
    }
    if (r == OX_RUNNING)
        go_on_watching(loop, item, ox_now_ns());
    else
        leave(loop, item, r);
}

/* Much of what programs are given fits into the pipe: then the input needs no watching. */
static void write_first_input(struct ox_loop *loop, struct item *item)
{
    sigset_t before;
    int was_pending;

    ox_sigpipe_hold(&before, &was_pending);
    item->events[OX_RUN_INPUT].revents = POLLOUT;
    advance(loop, item);
    ox_sigpipe_release(&before, was_pending);
}

/* --- the loop --------------------------------------------------------------------------------- */

static int watch_own(const struct ox_loop *loop, int fd, const void *mark)
{
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = (void *)mark };

    if (fd < 0)
        return -errno;
    return epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

int ox_loop_open(struct ox_loop **ret)
{
    struct ox_loop *loop = calloc(1, sizeof(*loop));
    int r;

    if (loop == NULL)
        return -ENOMEM;
    loop->news.last = &loop->news.first;
    loop->alarm = OX_NEVER;
    loop->wake = loop->timer = -1;
    loop->epoll = epoll_create1(EPOLL_CLOEXEC);
    r = loop->epoll < 0 ? -errno : 0;
    if (r == 0) {
        loop->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        r = watch_own(loop, loop->wake, &loop->wake);
    }
    if (r == 0) {
        loop->timer = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
        r = watch_own(loop, loop->timer, &loop->timer);
    }
    if (r < 0) {
        ox_loop_free(loop);
        return r;
    }
    *ret = loop;
    return 0;
}

void ox_loop_free(struct ox_loop *loop)
{
    struct item *item;

    if (loop == NULL)
        return;
    /* Without a word to epoll: in a forked child it is the parent's as well. */
    ox_close(&loop->epoll);
    ox_close(&loop->wake);
    ox_close(&loop->timer);
    while ((item = pop(&loop->news)) != NULL)
        free(item);
    for (size_t i = 0; i < loop->heap.count; i++) {
        item = at(loop, i);
        for (int slot = OX_RUN_SOCKET + 1; slot < OX_RUN_EVENTS; slot++)
            ox_close(&item->eyes[slot].fd);
        free(item);
    }
    free(loop->heap.members);
    free(loop);
}

void ox_loop_release(struct ox_loop **loop)
{
    struct ox_loop *held = *loop;

    *loop = NULL;
    ox_loop_free(held);
}

static int64_t first_due(const struct ox_loop *loop)
{
    if (loop->news.first != NULL)
        return 0;
    return loop->heap.count == 0 ? OX_NEVER : loop->heap.members[0]->at;
}

/* A timer that is early costs somebody a look; setting it anew for every run costs more. */
static void set_timer(struct ox_loop *loop)
{
    struct itimerspec when = { .it_value = { 0, 0 } };
    int64_t due = first_due(loop);

    if (!loop->timer_used || due == OX_NEVER || loop->alarm <= due)
        return;
    loop->alarm = due;
    when.it_value.tv_sec = due / 1000000000;
    when.it_value.tv_nsec = due == 0 ? 1 : due % 1000000000; /* 0 would turn it off */
    (void)timerfd_settime(loop->timer, TFD_TIMER_ABSTIME, &when, NULL);
}

int ox_loop_fd(struct ox_loop *loop)
{
    loop->timer_used = 1;
    set_timer(loop);
    return loop->epoll;
}

int ox_loop_add(struct ox_loop *loop, struct ox_run *run, uint64_t token)
{
    struct item *item = calloc(1, sizeof(*item));
    int r;

    if (item == NULL)
        return -ENOMEM;
    item->run = run;
    item->token = token;
    item->watched = run->input >= 0 || run->wake >= 0 || run->outputs[0].mode == OX_STREAM_COPY ||
                    run->outputs[1].mode == OX_STREAM_COPY;
    for (int slot = 0; slot < OX_RUN_EVENTS; slot++)
        item->eyes[slot] = (struct eye){ .item = item, .slot = slot, .fd = -1 };
    r = ox_heap_add(&loop->heap, &item->due);
    if (r < 0) {
        free(item);
        return r;
    }
    loop->writers += run->writes;
    ox_run_poll_set(run, item->events);
    if (run->ended)
        leave(loop, item, OX_ENDED);
    else if (run->input >= 0)
        write_first_input(loop, item);
    else
        go_on_watching(loop, item, run->begun);
    /* Whoever cancelled it before could not tell the loop. */
    if (item->progress == OX_RUNNING && __atomic_load_n(&run->cancelled, __ATOMIC_ACQUIRE))
        ox_heap_set(&loop->heap, &item->due, 0);
    set_timer(loop);
    return 0;
}

int ox_loop_cancel(struct ox_loop *loop, uint64_t token)
{
    for (size_t i = 0; i < loop->heap.count; i++) {
        struct item *item = at(loop, i);

        if (item->token != token)
            continue;
        ox_run_cancel(item->run);
        ox_heap_set(&loop->heap, &item->due, 0);
        set_timer(loop);
        return 0;
    }
    return -ENOENT;
}

int ox_loop_wake(struct ox_loop *loop)
{
    static const uint64_t one = 1;

    /* EAGAIN: the counter is full, so it is readable. */
    return write(loop->wake, &one, sizeof(one)) < 0 && errno != EAGAIN ? -errno : 0;
}

/* Somebody may have called ox_run_cancel(). */
static void look_for_cancelled(struct ox_loop *loop)
{
    size_t next = 0;

    /* One that moves to the front moves others down to places that have been looked at. */
    while (next < loop->heap.count) {
        struct item *item = at(loop, next++);

        if (item->due.at > 0 && !item->run->asked &&
            __atomic_load_n(&item->run->cancelled, __ATOMIC_ACQUIRE))
            ox_heap_set(&loop->heap, &item->due, 0);
    }
}

/* Note what epoll says at each run, so that one that ends is not looked at twice; 1 when the loop
 * has been woken. */
static int sort_out(struct ox_loop *loop, const struct epoll_event *events, int count,
                    struct queue *ret_ready)
{
    int woken = 0;

    for (int i = 0; i < count; i++) {
        struct eye *eye = events[i].data.ptr;
        uint64_t times;

        if (events[i].data.ptr == &loop->wake) {
            (void)!read(loop->wake, &times, sizeof(times));
            look_for_cancelled(loop);
            woken = 1;
        } else if (events[i].data.ptr == &loop->timer) {
            (void)!read(loop->timer, &times, sizeof(times));
            loop->alarm = OX_NEVER;
        } else {
            eye->item->events[eye->slot].revents = (short)events[i].events;
            if (!eye->item->ready)
                push(ret_ready, eye->item);
            eye->item->ready = 1;
        }
    }
    return woken;
}

static int watch(struct ox_loop *loop, int slice_ms)
{
    int64_t until = slice_ms < 0 ? OX_NEVER : ox_now_ns() + (int64_t)slice_ms * OX_MS;

    for (;;) {
        struct epoll_event events[ROUND_EVENTS];
        struct queue ready = { .first = NULL, .last = &ready.first };
        int64_t next = first_due(loop), now;
        struct item *item;
        int n, woken;

        if (until < next)
            next = until;
        n = epoll_wait(loop->epoll, events, ROUND_EVENTS,
                       next == OX_NEVER ? -1 : ox_until_ms(next));
        if (n < 0)
            return errno == EINTR ? 0 : -errno;
        woken = sort_out(loop, events, n, &ready);
        while ((item = pop(&ready)) != NULL) {
            item->ready = 0;
            advance(loop, item);
        }
        now = ox_now_ns();
        while (loop->heap.count > 0 && loop->heap.members[0]->at <= now)
            advance(loop, at(loop, 0));
        if (woken || loop->news.first != NULL || now >= until)
            return 0;
    }
}

static int guarded_watch(struct ox_loop *loop, int slice_ms)
{
    sigset_t before;
    int was_pending, r;

    if (loop->writers == 0)
        return watch(loop, slice_ms);
    ox_sigpipe_hold(&before, &was_pending);
    r = watch(loop, slice_ms);
    ox_sigpipe_release(&before, was_pending);
    return r;
}

int ox_loop_step(struct ox_loop *loop, int slice_ms, struct ox_news *ret_news, int capacity)
{
    int count = 0;
    int r = guarded_watch(loop, loop->news.first != NULL ? 0 : slice_ms);

    if (r < 0)
        return r;
    for (; count < capacity && loop->news.first != NULL; count++) {
        struct item *item = pop(&loop->news);

        ret_news[count] = (struct ox_news){ .token = item->token, .progress = item->progress };
        free(item);
    }
    set_timer(loop);
    return count;
}
