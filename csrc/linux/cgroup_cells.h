/* What the base needs to know of the cgroups of cells. */
#ifndef OX_CGROUP_CELLS_H
#define OX_CGROUP_CELLS_H

/* Remove all "cell-<id>" that hold no process. */
void ox_cgroup_remove_cells(int base_directory);

/* In a hierarchy of version 1 that also has the cpuset controller no process can join a new
 * cgroup before its cpus and memory nodes are set (cpuset(7)): take those of the parent. */
int ox_cgroup_inherit_cpuset(int parent, int directory);

#endif
