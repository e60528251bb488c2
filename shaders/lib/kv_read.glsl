// SPDX-License-Identifier: Apache-2.0
// Elements of a row of the KV cache as floats: K first, then V. Quants of q8_0 are exact in f32, and so are they times their scale.
#include "lib/bytes.glsl"
#include "lib/kv.glsl"

layout(set = 0, binding = WISP_BIND_KV_VEC4) readonly buffer KvVec4 { uvec4 kv4[]; };
layout(set = 0, binding = WISP_BIND_KV_WORD) readonly buffer KvWord { uint kv[]; };

struct Row { vec4 low, high; };

// Of q8_0, of the block that the element is in.
float load_scale(uint position, uint element) {
  const vec2 pair = unpackHalf2x16(kv[position * KV_ROW + KV_SCALES + element / 64u]);
  return (element & 32u) == 0u ? pair.x : pair.y;
}

// 8 elements from a multiple of 8 on, as they were loaded: unpacking waits for memory.
struct RawRow {
  uvec4 first, second;
  uint scales;
};

RawRow load_raw_row(uint position, uint element) {
  const uint first = position * (KV_ROW / 4u);
  if (KV_TYPE == KV_F32) {
    const uint at = first + element / 4u;
    return RawRow(kv4[at], kv4[at + 1u], 0u);
  }
  if (KV_TYPE == KV_Q8_0) return RawRow(kv4[first + element / 16u], uvec4(0u), kv[4u * first + KV_SCALES + element / 64u]);
  return RawRow(kv4[first + element / 8u], uvec4(0u), 0u);
}

Row unpack_row(RawRow raw, uint element) {
  if (KV_TYPE == KV_F32) return Row(uintBitsToFloat(raw.first), uintBitsToFloat(raw.second));
  if (KV_TYPE == KV_Q8_0) {
    const uvec2 quants = (element & 8u) == 0u ? raw.first.xy : raw.first.zw;
    const vec2 pair = unpackHalf2x16(raw.scales);
    const float scale = (element & 32u) == 0u ? pair.x : pair.y;
    return Row(scale * signed_bytes(quants.x), scale * signed_bytes(quants.y));
  }
  return Row(vec4(unpackHalf2x16(raw.first.x), unpackHalf2x16(raw.first.y)),
             vec4(unpackHalf2x16(raw.first.z), unpackHalf2x16(raw.first.w)));
}

Row load_row(uint position, uint element) { return unpack_row(load_raw_row(position, element), element); }

// 4 elements from a multiple of 4 on.
vec4 load_quad(uint position, uint element) {
  const uint first = position * KV_ROW;
  if (KV_TYPE == KV_F32) {
    const uint at = first + element;
    return uintBitsToFloat(uvec4(kv[at], kv[at + 1u], kv[at + 2u], kv[at + 3u]));
  }
  if (KV_TYPE == KV_Q8_0) return load_scale(position, element) * signed_bytes(kv[first + element / 4u]);
  const uint at = first + element / 2u;
  return vec4(unpackHalf2x16(kv[at]), unpackHalf2x16(kv[at + 1u]));
}

// Elements 2 * pair and 2 * pair + 1.
vec2 load_pair(uint position, uint pair) {
  const uint first = position * KV_ROW;
  if (KV_TYPE == KV_F32) return uintBitsToFloat(uvec2(kv[first + 2u * pair], kv[first + 2u * pair + 1u]));
  if (KV_TYPE == KV_Q8_0) {
    const vec4 quants = signed_bytes(kv[first + pair / 2u]);
    return load_scale(position, 2u * pair) * ((pair & 1u) == 0u ? quants.xy : quants.zw);
  }
  return unpackHalf2x16(kv[first + pair]);
}
