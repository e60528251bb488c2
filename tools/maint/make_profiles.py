#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes runtime/profiles_table.h from a JSON of device profiles.

usage: make_profiles.py PROFILES.json > runtime/profiles_table.h

The JSON holds {"source": TEXT, "devices": {NAME: {...}}}: per GPU the weakest limits and the shares of reports with a feature. A
profile is written as a WISP_CAPS list: limits, then the features that fewer than half of the reports have.
"""
import json
import sys
import textwrap

HEAD = """/* SPDX-License-Identifier: Apache-2.0
 * Made by tools/maint/make_profiles.py; do not edit.
 * {source}
 * Limits are the weakest reported; a feature that fewer than half of the reports have is off. */
#ifndef WVK_PROFILES_TABLE_H
#define WVK_PROFILES_TABLE_H

struct wvk_profile {{
  const char *name;
  const char *caps; /* a WISP_CAPS list */
}};

/* clang-format off */
static const struct wvk_profile wvk_profiles[] = {{
"""
TAIL = """};
/* clang-format on */

#endif
"""

# feature word -> key of share_of_reports_with
FEATURES = {name: name for name in ("float16", "int8", "storage16", "storage8", "memory_model", "cooperative_matrix",
                                    "timeline_semaphore", "timestamps", "subgroup_size_control")}
FEATURES["int_dot"] = "int_dot_signed_accelerated"


def profile(device):
    limits = {
        "max_workgroup": device["max_workgroup_invocations"],
        "shared_memory": device["shared_memory_bytes"],
        "push_constants": device["max_push_constants"],
        "max_storage_range": device["max_storage_buffer_range"]["lowest"],
        "storage_alignment": device["min_storage_buffer_offset_alignment"],
        "non_coherent_atom": device["non_coherent_atom"],
        "max_allocation": device["max_allocation_bytes"],
    }
    share = device["share_of_reports_with"]
    items = [f"{name}={value}" for name, value in limits.items() if value]
    items += [f"-{word}" for word, key in FEATURES.items() if share[key] < 0.5]
    if "arithmetic" not in device["subgroup_ops"] or device["subgroup_size"] < 4:
        items.append("-subgroup")
    return items


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        table = json.load(file)
    out = HEAD.format(source="\n * ".join(textwrap.wrap("Source: " + table["source"] + ".", 120)))
    for name, device in table["devices"].items():
        lines = textwrap.wrap(", ".join(profile(device)), 110)
        body = "\n   ".join('"' + line.replace(", ", ",") + '"' for line in lines)
        out += f'  {{"{name}",\n   {body}}},\n'
    sys.stdout.write(out + TAIL)


if __name__ == "__main__":
    main()
