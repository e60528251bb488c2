/* SPDX-License-Identifier: Apache-2.0
 * Made by tools/maint/make_profiles.py; do not edit.
 * Source: vulkan.gpuinfo.org reports (public mirror of May 2025, CC BY 4.0), vendor drivers on Android, reports of about
 * 2023 and later.
 * Limits are the weakest reported; a feature that fewer than half of the reports have is off. */
#ifndef WVK_PROFILES_TABLE_H
#define WVK_PROFILES_TABLE_H

struct wvk_profile {
  const char *name;
  const char *caps; /* a WISP_CAPS list */
};

/* clang-format off */
static const struct wvk_profile wvk_profiles[] = {
  {"adreno-610",
   "max_workgroup=1024,shared_memory=16384,push_constants=128,max_storage_range=134217728,"
   "storage_alignment=64,non_coherent_atom=1,max_allocation=1073741824,-storage16,-storage8,"
   "-cooperative_matrix,-timeline_semaphore,-int_dot"},
  {"adreno-618",
   "max_workgroup=1024,shared_memory=32768,push_constants=128,max_storage_range=134217728,"
   "storage_alignment=64,non_coherent_atom=1,max_allocation=1073741824,-storage16,-storage8,"
   "-cooperative_matrix,-timeline_semaphore,-int_dot"},
  {"adreno-619",
   "max_workgroup=1024,shared_memory=32768,push_constants=128,max_storage_range=134217728,"
   "storage_alignment=64,non_coherent_atom=1,max_allocation=1073741824,-storage16,-storage8,"
   "-cooperative_matrix,-timeline_semaphore,-int_dot"},
  {"adreno-640",
   "max_workgroup=1024,shared_memory=32768,push_constants=128,max_storage_range=134217728,"
   "storage_alignment=64,non_coherent_atom=1,max_allocation=1073741824,-storage16,-storage8,"
   "-cooperative_matrix,-timeline_semaphore,-int_dot"},
  {"adreno-650",
   "max_workgroup=1024,shared_memory=32768,push_constants=128,max_storage_range=134217728,"
   "storage_alignment=64,non_coherent_atom=1,max_allocation=1073741824,-storage8,-cooperative_matrix,-int_dot"},
  {"adreno-660",
   "max_workgroup=1024,shared_memory=32768,push_constants=128,max_storage_range=134217728,"
   "storage_alignment=64,non_coherent_atom=1,max_allocation=1073741824,-storage8,-cooperative_matrix,-int_dot"},
  {"adreno-730",
   "max_workgroup=1024,shared_memory=16384,push_constants=128,max_storage_range=134217728,"
   "storage_alignment=64,non_coherent_atom=1,max_allocation=1073741824,-cooperative_matrix,-int_dot"},
  {"adreno-740",
   "max_workgroup=1024,shared_memory=16384,push_constants=128,max_storage_range=134217728,"
   "storage_alignment=64,non_coherent_atom=1,max_allocation=1073741824,-cooperative_matrix"},
  {"adreno-750",
   "max_workgroup=1024,shared_memory=32768,push_constants=128,max_storage_range=134217728,"
   "storage_alignment=64,non_coherent_atom=1,max_allocation=1073741824,-cooperative_matrix"},
  {"adreno-830",
   "max_workgroup=1024,shared_memory=32768,push_constants=256,max_storage_range=134217728,"
   "storage_alignment=64,non_coherent_atom=1,max_allocation=1073741824,-cooperative_matrix"},
  {"mali-g51",
   "max_workgroup=384,shared_memory=32768,push_constants=256,max_storage_range=268435456,"
   "storage_alignment=256,non_coherent_atom=64,max_allocation=1073741824,-memory_model,-cooperative_matrix,"
   "-timeline_semaphore,-timestamps,-subgroup_size_control,-int_dot,-subgroup"},
  {"mali-g52",
   "max_workgroup=384,shared_memory=32768,push_constants=256,max_storage_range=268435456,"
   "storage_alignment=256,non_coherent_atom=64,-cooperative_matrix,-int_dot"},
  {"mali-g57",
   "max_workgroup=512,shared_memory=32768,push_constants=256,max_storage_range=268435456,"
   "storage_alignment=256,non_coherent_atom=64,max_allocation=3747479552,-cooperative_matrix,-int_dot"},
  {"mali-g72",
   "max_workgroup=384,shared_memory=32768,push_constants=256,max_storage_range=268435456,"
   "storage_alignment=256,non_coherent_atom=64,-cooperative_matrix,-timestamps,-int_dot"},
  {"mali-g76",
   "max_workgroup=384,shared_memory=32768,push_constants=256,max_storage_range=268435456,"
   "storage_alignment=256,non_coherent_atom=64,max_allocation=1073741824,-cooperative_matrix,-timestamps,"
   "-subgroup_size_control,-int_dot"},
  {"mali-g77",
   "max_workgroup=512,shared_memory=32768,push_constants=256,max_storage_range=268435456,storage_alignment=64,"
   "non_coherent_atom=64,max_allocation=7829315584,-cooperative_matrix,-int_dot"},
  {"mali-g78",
   "max_workgroup=512,shared_memory=32768,push_constants=256,max_storage_range=268435456,"
   "storage_alignment=256,non_coherent_atom=64,max_allocation=8589934592,-cooperative_matrix"},
  {"mali-g610",
   "max_workgroup=1024,shared_memory=32768,push_constants=128,max_storage_range=268435456,"
   "storage_alignment=64,non_coherent_atom=64,max_allocation=4294967295,-cooperative_matrix,-int_dot"},
  {"mali-g710",
   "max_workgroup=1024,shared_memory=32768,push_constants=256,max_storage_range=268435456,"
   "storage_alignment=64,non_coherent_atom=64,max_allocation=8589934592,-cooperative_matrix"},
  {"mali-g715",
   "max_workgroup=1024,shared_memory=32768,push_constants=256,max_storage_range=268435456,"
   "storage_alignment=64,non_coherent_atom=64,max_allocation=8589934592"},
  {"mali-g720",
   "max_workgroup=1024,shared_memory=32768,push_constants=256,max_storage_range=2147483648,"
   "storage_alignment=64,non_coherent_atom=64,max_allocation=8589934592,-cooperative_matrix"},
  {"mali-g925",
   "max_workgroup=1024,shared_memory=32768,push_constants=256,max_storage_range=2147483648,"
   "storage_alignment=64,non_coherent_atom=64,max_allocation=8589934592"},
  {"xclipse-920",
   "max_workgroup=1024,shared_memory=32768,push_constants=128,max_storage_range=4294967295,"
   "storage_alignment=4,non_coherent_atom=128,max_allocation=2147483648,-cooperative_matrix,-int_dot"},
  {"xclipse-940",
   "max_workgroup=1024,shared_memory=32768,push_constants=128,max_storage_range=4294967295,"
   "storage_alignment=4,non_coherent_atom=128,max_allocation=2147483648,-cooperative_matrix,-int_dot"},
  {"powervr-ge8320",
   "max_workgroup=512,shared_memory=16384,push_constants=128,max_storage_range=134217728,storage_alignment=4,"
   "non_coherent_atom=1,max_allocation=1073741824,-cooperative_matrix,-timeline_semaphore,-timestamps,"
   "-subgroup_size_control,-int_dot,-subgroup"},
  {"powervr-bxm-8-256",
   "max_workgroup=512,shared_memory=16384,push_constants=128,max_storage_range=134217728,storage_alignment=4,"
   "non_coherent_atom=64,max_allocation=1073741824,-cooperative_matrix,-timestamps,-subgroup_size_control,"
   "-int_dot"},
};
/* clang-format on */

#endif
