// SPDX-License-Identifier: Apache-2.0
// Reading weights in the device layouts of shared/kernel.h. `layout_id` is a specialisation constant at every call: only one branch
// of each function survives in a pipeline.

struct Matrix {
  uint layout_id;
  uint quants;      // first uvec4
  uint scales;      // first word
};

float half_scale(uint base, uint block) {  // f16, two blocks a word
  const vec2 pair = unpackHalf2x16(weights[base + (block >> 1)]);
  return (block & 1u) == 0u ? pair.x : pair.y;
}

vec4 nibbles(uint word) { return vec4(uvec4(word, word >> 4, word >> 8, word >> 12) & 15u); }
vec4 signed_bytes(uint word) { return vec4(ivec4(word << 24, word << 16, word << 8, word) >> 24); }
vec4 bf16_pairs(uvec2 words) {
  return uintBitsToFloat(uvec4(words.x << 16, words.x & 0xffff0000u, words.y << 16, words.y & 0xffff0000u));
}
vec4 f16_pairs(uvec2 words) { return vec4(unpackHalf2x16(words.x), unpackHalf2x16(words.y)); }

uint block_vectors(uint layout_id) {  // uvec4 of a block
  return layout_id == WISP_LAYOUT_F32 ? 8u
       : layout_id <= WISP_LAYOUT_BF16 ? 4u
       : layout_id <= WISP_LAYOUT_Q4A ? 1u : 2u;
}

// Weights 4 * part .. 4 * part + 3 of a block before scale and minimum.
vec4 block_part(uint layout_id, uint first, uint part) {
  if (layout_id == WISP_LAYOUT_F32) return uintBitsToFloat(weights4[first + part]);
  const uvec4 v = weights4[first + (layout_id <= WISP_LAYOUT_BF16 ? part >> 1 : layout_id <= WISP_LAYOUT_Q4A ? 0u : part >> 2)];
  if (layout_id <= WISP_LAYOUT_BF16) {
    const uvec2 words = (part & 1u) == 0u ? v.xy : v.zw;
    return layout_id == WISP_LAYOUT_F16 ? f16_pairs(words) : bf16_pairs(words);
  }
  if (layout_id <= WISP_LAYOUT_Q4A) return nibbles(v[part >> 1] >> (16u * (part & 1u)));
  return signed_bytes(v[part & 3u]);
}

// (scale, minimum) of part `part` of a block; weight = quant * scale + minimum.
vec2 block_scale(Matrix m, uint block, uint part) {
  if (m.layout_id <= WISP_LAYOUT_BF16) return vec2(1.0, 0.0);
  if (m.layout_id == WISP_LAYOUT_Q4S) {
    const float scale = half_scale(m.scales, block);
    return vec2(scale, -8.0 * scale);
  }
  if (m.layout_id == WISP_LAYOUT_Q8S) return vec2(half_scale(m.scales, block), 0.0);
  const vec2 pair = unpackHalf2x16(weights[m.scales + block]);
  if (m.layout_id == WISP_LAYOUT_Q8H) return vec2(part < 4u ? pair.x : pair.y, 0.0);
  return pair;
}
