#version 450
#extension GL_KHR_shader_subgroup_basic : require
// SPDX-License-Identifier: Apache-2.0
// Every invocation writes the size of its subgroup.
layout(local_size_x_id = 0) in;

layout(set = 0, binding = 0) buffer Window { uint window[]; };
layout(set = 0, binding = 1) buffer Sums { uint sums[]; };

void main() { sums[gl_GlobalInvocationID.x] = gl_SubgroupSize; }
