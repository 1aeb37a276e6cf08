/* The launcher's loop: requests from the host, reports from cells under construction, ends.
 *
 * One thread. It waits for nothing but the next event: a cell builds itself while the loop goes on,
 * an answer goes out when its cell is ready, and a cell that is destroyed is killed at once and
 * buried when the kernel has taken it apart. */
#include "serve.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "../posix/fd.h"
#include "../wire.h"
#include "unpack.h"

/* How long a request waits for the uid pair or the slot of a cell that is dying. */
#define PAIR_MS 500
/* How often cgroups that the kernel still counts as busy are looked at, and requests that wait. */
#define RETRY_MS 5
/* The longest that a call waits whose cell has made too many of its kind. */
#define NOTE_MS 1
/* How often deadlines of cells under construction are looked at. */
#define DEADLINE_MS 500

/* What comes before the cells in the list of events. */
enum {
    SOCKET,
    HOST,
    FIRST_CELL
};

struct ox_waiting {
    struct ox_waiting *next;
    int64_t deadline;
    size_t size;
    size_t fds_count;
    int fds[OX_FDS_MAX];
    union ox_request message; /* allocated to size */
};

int ox_service_prepare(struct ox_service *service, uint32_t cells_max)
{
    uint32_t slots = 2 * cells_max;

    service->cells = calloc(slots, sizeof(*service->cells));
    service->watched = calloc(slots, sizeof(*service->watched));
    service->events = calloc(slots + FIRST_CELL, sizeof(*service->events));
    if (service->cells == NULL || service->watched == NULL || service->events == NULL)
        return -ENOMEM;
    service->slots = slots;
    service->cells_max = cells_max;
    service->waiting_end = &service->waiting;
    return 0;
}

/* --- answers ---------------------------------------------------------------------------------- */

/* Wait until the host takes an answer. A host that reads none is served no further; its end is
 * seen all the same. */
static int wait_for_host(const struct ox_service *service)
{
    struct pollfd events[2] = {
        [SOCKET] = { .fd = service->socket, .events = POLLOUT },
        [HOST] = { .fd = service->host, .events = POLLIN },
    };

    if (poll(events, 2, -1) < 0 && errno != EINTR)
        return -errno;
    return events[HOST].revents != 0 ? -EPIPE : 0;
}

/* A negative result here and below ends the launcher. */
static int answer(const struct ox_service *service, const struct ox_wire_create_reply *reply,
                  const int *fds, size_t fds_count)
{
    for (;;) {
        int r = ox_send(service->socket, reply, sizeof(*reply), NULL, 0, fds, fds_count);

        if (r != -EAGAIN)
            return r;
        r = wait_for_host(service);
        if (r < 0)
            return r;
    }
}

static int refuse(const struct ox_service *service, uint32_t sequence, struct ox_error error)
{
    struct ox_wire_create_reply reply = {
        .kind = OX_MESSAGE_CREATE,
        .sequence = sequence,
        .error = error,
    };

    return answer(service, &reply, NULL, 0);
}

static int hand_over(const struct ox_service *service, struct ox_kept_cell *cell)
{
    struct ox_wire_create_reply reply = {
        .kind = OX_MESSAGE_CREATE,
        .sequence = cell->sequence,
        .id = cell->id,
        .has_listener = cell->notes != OX_NOTES_NONE,
    };
    const int counters[] = { cell->cgroup.cpu_fd, cell->cgroup.oom_fd, cell->cgroup.usage_fd,
                             cell->cgroup.peak_fd, cell->warden < 0 ? -1 : cell->pidfd };
    int fds[9] = { cell->socket, cell->warden < 0 ? cell->pidfd : cell->warden, cell->writable };
    size_t count = 3;
    int r;

    for (unsigned i = 0; i < sizeof(counters) / sizeof(counters[0]); i++) {
        if (counters[i] < 0)
            continue;
        reply.counters |= 1u << i;
        fds[count++] = counters[i];
    }
    if (reply.has_listener != 0)
        fds[count++] = cell->listener;
    r = answer(service, &reply, fds, count);
    if (r == 0)
        ox_kept_cell_hand_over(cell);
    return r;
}

/* --- cells ------------------------------------------------------------------------------------ */

static struct ox_kept_cell *find_cell(const struct ox_service *service, uint32_t id)
{
    for (uint32_t i = 0; i < service->slots; i++) {
        if (service->cells[i].id == id)
            return &service->cells[i];
    }
    return NULL;
}

static void watch(struct ox_service *service, const struct ox_kept_cell *cell)
{
    service->watched[service->watched_count++] = (uint32_t)(cell - service->cells);
}

/* A cell that was the host's, or on its way to it, is no longer. */
static void end_cell(struct ox_service *service, struct ox_kept_cell *cell)
{
    service->live--;
    service->works.level->kill(&service->works, cell);
}

/* Cells whose warden has ended although nobody asked for it: a host that lost track of them. */
static void end_dead(struct ox_service *service)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < service->watched_count; i++) {
        struct ox_kept_cell *cell = &service->cells[service->watched[i]];

        if (cell->state == OX_CELL_READY && ox_wait_readable(cell->pidfd, 0) == 0) {
            service->live--;
            (void)service->works.level->bury(&service->works, cell, 0);
        }
        if (cell->state != OX_CELL_FREE)
            service->watched[kept++] = service->watched[i];
    }
    service->watched_count = kept;
}

/* -EAGAIN: there is no slot or no uid pair for it now. */
static int begin(struct ox_service *service, const struct ox_cell_request *request,
                 struct ox_error *ret_error)
{
    struct ox_kept_cell *cell = find_cell(service, 0);
    int r;

    *ret_error = (struct ox_error){ OX_STAGE_REQUEST, EAGAIN };
    if (cell == NULL)
        return -EAGAIN;
    r = service->works.level->begin(&service->works, request, cell, ret_error);
    if (r == 0)
        service->live++;
    if (cell->state != OX_CELL_FREE)
        watch(service, cell);
    return r == -EAGAIN && ret_error->stage != OX_STAGE_UID_PAIR ? -EIO : r;
}

/* --- requests that wait ----------------------------------------------------------------------- */

static int has_dying(const struct ox_service *service)
{
    for (uint32_t i = 0; i < service->watched_count; i++) {
        if (service->cells[service->watched[i]].state == OX_CELL_DYING)
            return 1;
    }
    return 0;
}

/* Takes over the descriptors on success. */
static int put_off(struct ox_service *service, const union ox_request *message, size_t size,
                   const int *fds, size_t fds_count)
{
    struct ox_waiting *waiting = malloc(offsetof(struct ox_waiting, message) + size);

    if (waiting == NULL)
        return -ENOMEM;
    waiting->next = NULL;
    waiting->deadline = ox_now_ns() + (int64_t)PAIR_MS * 1000000;
    waiting->size = size;
    waiting->fds_count = fds_count;
    memcpy(waiting->fds, fds, fds_count * sizeof(*fds));
    memcpy(&waiting->message, message, size);
    *service->waiting_end = waiting;
    service->waiting_end = &waiting->next;
    service->live++;
    return 0;
}

static void drop_first(struct ox_service *service)
{
    struct ox_waiting *first = service->waiting;

    service->waiting = first->next;
    if (first->next == NULL)
        service->waiting_end = &service->waiting;
    service->live--;
    ox_close_all(first->fds, first->fds_count);
    free(first);
}

/* In the order of their arrival, as far as there is something for them. */
static int resume(struct ox_service *service)
{
    static struct ox_cell_request request;

    while (service->waiting != NULL) {
        struct ox_waiting *first = service->waiting;
        struct ox_error error;
        int r;

        (void)ox_unpack_create(&first->message, first->size, first->fds, first->fds_count,
                               &request);
        r = begin(service, &request, &error);
        if (r == -EAGAIN && has_dying(service) && ox_now_ns() < first->deadline)
            return 0;
        drop_first(service);
        if (r < 0)
            r = refuse(service, request.sequence, error);
        if (r < 0)
            return r;
    }
    return 0;
}

/* --- requests --------------------------------------------------------------------------------- */

/* 1: the descriptors are taken over. */
static int create(struct ox_service *service, const union ox_request *message, size_t size,
                  const int *fds, size_t fds_count)
{
    static struct ox_cell_request request;
    struct ox_error error = { OX_STAGE_REQUEST, EBUSY };
    int r;

    if (service->live >= service->cells_max)
        end_dead(service);
    if (service->live >= service->cells_max)
        return refuse(service, message->create.sequence, error);
    r = ox_unpack_create(message, size, fds, fds_count, &request);
    if (r < 0) {
        error.errnum = -r;
        return refuse(service, message->create.sequence, error);
    }
    r = service->waiting != NULL ? -EAGAIN : begin(service, &request, &error);
    if (r == -EAGAIN && !has_dying(service)) {
        end_dead(service);
        r = begin(service, &request, &error);
    }
    if (r == -EAGAIN && has_dying(service)) {
        r = put_off(service, message, size, fds, fds_count);
        if (r == 0)
            return 1;
        error = (struct ox_error){ OX_STAGE_REQUEST, -r };
    }
    return r < 0 ? refuse(service, request.sequence, error) : 0;
}

/* One-way: the host sees the end through its own pidfd. A number that is none costs nothing. */
static void destroy(struct ox_service *service, const struct ox_wire_destroy *request)
{
    struct ox_kept_cell *cell = request->id != 0 ? find_cell(service, request->id) : NULL;

    if (cell == NULL || cell->state != OX_CELL_READY)
        return;
    end_cell(service, cell);
}

static int serve_one(struct ox_service *service)
{
    static union ox_request message;
    int fds[OX_FDS_MAX];
    size_t fds_count;
    ssize_t size =
        ox_receive(service->socket, &message, sizeof(message), fds, OX_FDS_MAX, &fds_count);
    int r = 0;

    if (size == -EAGAIN)
        return 0;
    if (size <= 0)
        return size < 0 ? (int)size : -EPIPE;
    if ((size_t)size >= sizeof(message.create) && message.kind == OX_MESSAGE_CREATE)
        r = create(service, &message, (size_t)size, fds, fds_count);
    else if ((size_t)size == sizeof(message.destroy) && message.kind == OX_MESSAGE_DESTROY)
        destroy(service, &message.destroy);
    else
        r = -EBADMSG;
    if (r != 1)
        ox_close_all(fds, fds_count);
    return r < 0 ? r : 0;
}

/* --- the loop --------------------------------------------------------------------------------- */

static int look_at_building(struct ox_service *service, struct ox_kept_cell *cell, int readable,
                            int64_t now)
{
    struct ox_error error = { OX_STAGE_WARDEN, ETIMEDOUT };
    int r = 0;

    if (readable)
        r = ox_kept_cell_hear(cell, &error);
    else if (now >= cell->deadline)
        r = -ETIMEDOUT;
    if (r == 1)
        return hand_over(service, cell);
    if (r == 0)
        return 0;
    end_cell(service, cell);
    return refuse(service, cell->sequence, error);
}

static int watched_descriptor(const struct ox_kept_cell *cell, int64_t now)
{
    if (cell->state == OX_CELL_BUILDING)
        return cell->socket;
    if (cell->state == OX_CELL_READY)
        return now < cell->note_at ? -1 : cell->listener;
    return cell->pidfd;
}

/* Those whose descriptor has something to say, and those whose time is over. */
static int look_at_cells(struct ox_service *service)
{
    uint32_t count = service->watched_count, kept = 0;
    int64_t now = ox_now_ns();
    int r = 0;

    for (uint32_t i = 0; i < count; i++) {
        struct ox_kept_cell *cell = &service->cells[service->watched[i]];
        int readable = service->events[FIRST_CELL + i].revents != 0;

        if (r == 0 && cell->state == OX_CELL_BUILDING)
            r = look_at_building(service, cell, readable, now);
        else if (cell->state == OX_CELL_READY && readable)
            ox_kept_cell_note(cell, (service->events[FIRST_CELL + i].revents & POLLIN) != 0);
        else if (cell->state == OX_CELL_DYING && readable)
            (void)service->works.level->bury(&service->works, cell, 0);
        if (cell->state != OX_CELL_FREE)
            service->watched[kept++] = service->watched[i];
    }
    service->watched_count = kept;
    return r;
}

static int wait_for_events(struct ox_service *service)
{
    struct pollfd *events = service->events;
    int64_t now = ox_now_ns();
    int wait_ms = -1;

    events[SOCKET] = (struct pollfd){ .fd = service->socket, .events = POLLIN };
    events[HOST] = (struct pollfd){ .fd = service->host, .events = POLLIN };
    for (uint32_t i = 0; i < service->watched_count; i++) {
        const struct ox_kept_cell *cell = &service->cells[service->watched[i]];

        events[FIRST_CELL + i] =
            (struct pollfd){ .fd = watched_descriptor(cell, now), .events = POLLIN };
        if (cell->state == OX_CELL_BUILDING && wait_ms < 0)
            wait_ms = DEADLINE_MS;
        if (cell->state == OX_CELL_READY && now < cell->note_at)
            wait_ms = NOTE_MS;
    }
    if (wait_ms != NOTE_MS &&
        (service->waiting != NULL || service->works.cgroups.pending_count > 0))
        wait_ms = RETRY_MS;
    if (poll(events, FIRST_CELL + service->watched_count, wait_ms) >= 0)
        return 0;
    for (uint32_t i = 0; i < FIRST_CELL + service->watched_count; i++)
        events[i].revents = 0;
    return errno == EINTR ? 0 : -errno;
}

void ox_serve(struct ox_service *service)
{
    for (;;) {
        short said;

        if (wait_for_events(service) < 0)
            return;
        /* The host first: a socket alone stays open in a forked child of a dead host. */
        if (service->events[HOST].revents != 0)
            return;
        said = service->events[SOCKET].revents;
        if (look_at_cells(service) < 0)
            return;
        (void)ox_cgroup_retry(&service->works.cgroups);
        if (resume(service) < 0)
            return;
        if (said != 0 && serve_one(service) < 0)
            return;
        if (service->works.nets.astray || service->works.spaces.astray)
            return;
    }
}

/* --- the end ---------------------------------------------------------------------------------- */

void ox_service_end(struct ox_service *service, int wait_ms)
{
    int64_t deadline = ox_now_ns() + (int64_t)wait_ms * 1000000;

    while (service->waiting != NULL)
        drop_first(service);
    /* All the kills before the first wait. */
    for (uint32_t i = 0; i < service->slots; i++) {
        struct ox_kept_cell *cell = &service->cells[i];

        if (cell->state == OX_CELL_BUILDING || cell->state == OX_CELL_READY)
            service->works.level->kill(&service->works, cell);
    }
    for (uint32_t i = 0; i < service->slots; i++) {
        if (service->cells[i].state == OX_CELL_DYING)
            (void)service->works.level->bury(&service->works, &service->cells[i],
                                             ox_until_ms(deadline));
    }
}

void ox_service_free(struct ox_service *service)
{
    free(service->cells);
    free(service->watched);
    free(service->events);
}
