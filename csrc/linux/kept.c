/* What cells of every level have in common, on the launcher's side. */
#include "cell.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "../posix/fail.h"
#include "../posix/fd.h"

/* --- what every cell draws on ----------------------------------------------------------------- */

static void lack(struct ox_problem *lacking, int stage, int r,
                 const struct ox_cgroup_problem *problem)
{
    lacking->error = (struct ox_error){ stage, -r };
    (void)snprintf(lacking->cause, sizeof(lacking->cause), "%s", problem->cause);
    (void)snprintf(lacking->remedy, sizeof(lacking->remedy), "%s", problem->remedy);
}

static int is_used_up(int r)
{
    return r == -EMFILE || r == -ENFILE || r == -ENOMEM;
}

int ox_works_open_cgroups(struct ox_works *works, struct ox_problem *ret_problem)
{
    struct ox_cgroup_problem problem = { 0 };
    int r = ox_cgroup_base_open(&works->cgroups, &problem);

    if (r == 0)
        works->holds |= OX_MEMORY_TREE | OX_CPU_TREE | OX_PROCESSES;
    else
        lack(&works->lacking, OX_STAGE_CGROUP_BASE, r, &problem);
    if (r == 0 && works->cgroups.rate.is_held)
        works->holds |= OX_CPU_RATE;
    else if (r == 0)
        lack(&works->lacking_rate, OX_STAGE_CGROUP_RATE, -ENOTSUP, &problem);
    if (!is_used_up(r))
        return 0;
    *ret_problem = works->lacking;
    return r;
}

/* --- a cell ----------------------------------------------------------------------------------- */

void ox_kept_cell_begin(const struct ox_cell_request *request, struct ox_kept_cell *cell)
{
    *cell = (struct ox_kept_cell){
        .state = OX_CELL_BUILDING,
        .sequence = request->sequence,
        .deadline = ox_now_ns() + (int64_t)OX_CELL_MAKE_MS * 1000000,
        .pidfd = -1,
        .socket = -1,
        .writable = -1,
        .cgroup = OX_CGROUP_NONE,
        .net = OX_NET_NONE,
        .listener = -1,
        .warden = -1,
        .directory = -1,
    };
}

int ox_kept_cell_take_cgroup(struct ox_works *works, const struct ox_cell_request *request,
                             int64_t processes, struct ox_kept_cell *cell,
                             struct ox_error *ret_error)
{
    const struct ox_cgroup_limits limits = {
        .memory_bytes = request->memory_bytes,
        .processes = processes,
        .cpu_quota_us = works->holds & OX_CPU_RATE ? request->cpu_quota_us : -1,
    };
    int r = limits.cpu_quota_us < 0 ? 0 : ox_cgroup_rate_open(&works->cgroups);

    if (r == 0)
        r = ox_cgroup_take(&works->cgroups, cell->id, &limits, &cell->cgroup);
    if (r == 0)
        return 0;
    return ox_fail(limits.cpu_quota_us < 0 ? OX_STAGE_CGROUP : OX_STAGE_CGROUP_RATE, r, ret_error);
}

int ox_kept_cell_hear(struct ox_kept_cell *cell, struct ox_error *ret_error)
{
    struct ox_error report;
    int fds[2] = { -1, -1 };
    size_t fds_count;
    ssize_t size = ox_receive(cell->socket, &report, sizeof(report), fds, 2, &fds_count);

    /* ECHILD: it ended without a word. */
    if (size != (ssize_t)sizeof(report)) {
        ox_close_all(fds, 2);
        return ox_fail(OX_STAGE_WARDEN, size < 0 ? (int)size : -ECHILD, ret_error);
    }
    if (report.stage != OX_STAGE_NONE) {
        ox_close_all(fds, 2);
        *ret_error = report;
        return -report.errnum;
    }
    if (cell->writable >= 0 && cell->is_kept) {
        cell->warden = fds[0];
        if (cell->cgroup.cpu_fd < 0)
            cell->cgroup.cpu_fd = fds[1];
        else
            ox_close(&fds[1]);
        return cell->warden >= 0 ? 1 : ox_fail(OX_STAGE_WARDEN, -EBADMSG, ret_error);
    }
    if (cell->writable >= 0) {
        cell->listener = fds[0];
        cell->noted = cell->listener < 0 || cell->notes != OX_NOTES_NONE;
        if (cell->notes != OX_NOTES_NONE && cell->listener < 0)
            return ox_fail(OX_STAGE_WARDEN, -EBADMSG, ret_error);
        return 1;
    }
    cell->writable = fds[0];
    return cell->writable >= 0 ? 0 : ox_fail(OX_STAGE_WARDEN, -EBADMSG, ret_error);
}

void ox_kept_cell_note(struct ox_kept_cell *cell, int readable)
{
    int64_t earliest = ox_now_ns() - OX_NET_NOTES_BURST * OX_NET_NOTE_NS;

    if (readable)
        cell->noted = 1;
    cell->note_at = (cell->note_at > earliest ? cell->note_at : earliest) + OX_NET_NOTE_NS;
    if (!readable || ox_net_take_note(cell->listener) < 0)
        ox_close(&cell->listener);
}

void ox_kept_cell_hand_over(struct ox_kept_cell *cell)
{
    ox_close(&cell->socket);
    ox_close(&cell->writable);
    if (cell->notes != OX_NOTES_NONE)
        ox_close(&cell->listener);
    ox_close(&cell->warden);
    cell->state = OX_CELL_READY;
}
