/* SPDX-License-Identifier: Apache-2.0
 * WISP_CAPS: lowers what the engine believes of a device.
 *
 *   WISP_CAPS=[PROFILE][,+FEATURE|-FEATURE|LIMIT=N|kind=KIND]...     tier0,+float16    adreno-610
 * -subgroup,max_storage_range=134217728
 *
 * Items apply from left to right. A profile is itself such a list. Nothing is ever raised above what the device has; its kind
 * may be any, since that only says which kernels are likely to be fast. */
#include "internal.h"
#include "profiles_table.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A feature is a span of wvk_caps: off = zero bytes, on = the device's own bytes. */
static const struct feature {
  const char *name;
  size_t offset, size;
} features[] = {
#define SPAN(first, last)                                                                                                      \
  offsetof(wvk_caps, first), offsetof(wvk_caps, last) + sizeof(((wvk_caps *)0)->last) - offsetof(wvk_caps, first)
    {"float16", SPAN(float16, float16)},
    {"int8", SPAN(int8, int8)},
    {"storage16", SPAN(storage16, storage16)},
    {"storage8", SPAN(storage8, storage8)},
    {"subgroup", SPAN(subgroup_arithmetic, subgroup_shuffle)},
    {"int_dot", SPAN(int_dot, int_dot)},
    {"memory_model", SPAN(memory_model, memory_model)},
    {"atomic64", SPAN(atomic64, atomic64)},
    {"cooperative_matrix", SPAN(cooperative_matrix, cooperative_matrix)},
    {"timeline_semaphore", SPAN(timeline_semaphore, timeline_semaphore)},
    {"timestamps", SPAN(timestamp_ns, timestamp_ns)},
    {"subgroup_size_control", SPAN(subgroup_size_control, subgroup_size_control)},
    {"unified_memory", SPAN(unified_memory, unified_memory)},
#undef SPAN
};

static const struct limit {
  const char *name;
  size_t offset;
  bool wide;   /* uint64_t, else uint32_t */
  bool raises; /* the higher number is the weaker device */
} limits[] = {
    {"max_storage_range", offsetof(wvk_caps, max_storage_range), true, false},
    {"max_allocation", offsetof(wvk_caps, max_allocation), true, false},
    {"shared_memory", offsetof(wvk_caps, shared_memory), false, false},
    {"max_workgroup", offsetof(wvk_caps, max_workgroup), false, false},
    {"push_constants", offsetof(wvk_caps, push_constants), false, false},
    {"storage_buffers", offsetof(wvk_caps, storage_buffers), false, false},
    {"dynamic_storage_buffers", offsetof(wvk_caps, dynamic_storage_buffers), false, false},
    {"storage_alignment", offsetof(wvk_caps, storage_alignment), true, true},
    {"non_coherent_atom", offsetof(wvk_caps, non_coherent_atom), true, true},
};

static const struct wvk_profile tier0 = {
    "tier0",
    "max_workgroup=256,shared_memory=16384,push_constants=128,max_storage_range=134217728,storage_buffers=8,"
    "dynamic_storage_buffers=4,storage_alignment=256,max_allocation=1073741824,-float16,-int8,-storage16,-storage8,"
    "-subgroup,-int_dot,-memory_model,-atomic64,-cooperative_matrix,-timeline_semaphore,-timestamps,-subgroup_size_control"};

#define COUNT(array) (sizeof(array) / sizeof *(array))

static bool same(const char *name, const char *text, size_t length) {
  return strlen(name) == length && memcmp(name, text, length) == 0;
}

static bool set_feature(wvk_caps *caps, const wvk_caps *have, bool on, const char *name, size_t length) {
  for (size_t i = 0; i < COUNT(features); i++) {
    const struct feature *feature = &features[i];
    if (!same(feature->name, name, length)) continue;
    unsigned char *span = (unsigned char *)caps + feature->offset;
    if (on)
      memcpy(span, (const unsigned char *)have + feature->offset, feature->size);
    else
      memset(span, 0, feature->size);
    return true;
  }
  return false;
}

static bool set_limit(wvk_caps *caps, const char *item, size_t length) {
  const char *equals = memchr(item, '=', length);
  if (!equals || equals[1] < '0' || equals[1] > '9') return false;
  char *end;
  errno = 0;
  unsigned long long value = strtoull(equals + 1, &end, 10);
  if (end != item + length || value == 0 || errno != 0) return false;
  for (size_t i = 0; i < COUNT(limits); i++) {
    const struct limit *limit = &limits[i];
    if (!same(limit->name, item, (size_t)(equals - item))) continue;
    void *field = (unsigned char *)caps + limit->offset;
    uint64_t now = limit->wide ? *(uint64_t *)field : *(uint32_t *)field;
    if (limit->raises ? value <= now : value >= now) return true;
    if (limit->wide)
      *(uint64_t *)field = value;
    else
      *(uint32_t *)field = (uint32_t)value;
    return true;
  }
  return false;
}

static bool set_kind(wvk_caps *caps, const char *item, size_t length) {
  static const char *const names[] = {[WVK_KIND_OTHER] = "kind=other",
                                      [WVK_KIND_INTEGRATED] = "kind=integrated",
                                      [WVK_KIND_DISCRETE] = "kind=discrete",
                                      [WVK_KIND_VIRTUAL] = "kind=virtual",
                                      [WVK_KIND_SOFTWARE] = "kind=software"};
  for (size_t i = 0; i < COUNT(names); i++) {
    if (!same(names[i], item, length)) continue;
    caps->kind = (wvk_kind)i;
    return true;
  }
  return false;
}

static const struct wvk_profile *find_profile(const char *name, size_t length) {
  if (same(tier0.name, name, length)) return &tier0;
  for (size_t i = 0; i < COUNT(wvk_profiles); i++)
    if (same(wvk_profiles[i].name, name, length)) return &wvk_profiles[i];
  return NULL;
}

static wvk_status refuse(const wvk_host *host, const char *item, size_t length) {
  char known[1024] = "";
  size_t used = 0;
#define ADD(format, name)                                                                                                      \
  if (used < sizeof known) used += (size_t)snprintf(known + used, sizeof known - used, format, name)
  ADD("%s", tier0.name);
  for (size_t i = 0; i < COUNT(wvk_profiles); i++) ADD(" %s", wvk_profiles[i].name);
  for (size_t i = 0; i < COUNT(features); i++) ADD(" +-%s", features[i].name);
  for (size_t i = 0; i < COUNT(limits); i++) ADD(" %s=N", limits[i].name);
  ADD(" kind=%s", "discrete|integrated|virtual|software|other");
#undef ADD
  return wvk_fail(host, WVK_ERROR_NO_DEVICE, "WISP_CAPS: '%.*s' is not known; known: %s", (int)(length < 64 ? length : 64),
                  item, known);
}

wvk_status wvk_caps_clamp(wvk_caps *caps, const wvk_caps *have, const char *text, const wvk_host *host) {
  if (!text || !*text) return WVK_OK;
  for (const char *item = text;; item++) {
    size_t length = strcspn(item, ",");
    const struct wvk_profile *profile = item == text ? find_profile(item, length) : NULL;
    if (profile)
      WVK_TRY(wvk_caps_clamp(caps, have, profile->caps, host));
    else if (length > 0 && (item[0] == '+' || item[0] == '-')) {
      if (!set_feature(caps, have, item[0] == '+', item + 1, length - 1)) return refuse(host, item, length);
    } else if (!set_limit(caps, item, length) && !set_kind(caps, item, length))
      return refuse(host, item, length);
    item += length;
    if (!*item) return WVK_OK;
  }
}
