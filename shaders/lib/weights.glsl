// SPDX-License-Identifier: Apache-2.0
// Reading weights in the device layouts of shared/kernel.h. `layout_id` is a specialisation constant at every call: only one branch
// of each function survives in a pipeline.

#include "lib/bytes.glsl"

struct Matrix {
  uint layout_id;
  uint quants;      // first uvec4
  uint scales;      // first word
};

vec4 nibbles(uint word, float less) {
  return mantissa(uvec4(word, word >> 4, word >> 8, word >> 12) & 15u) - (8388608.0 + less);
}
vec4 bf16_pairs(uvec2 words) {
  return uintBitsToFloat(uvec4(words.x << 16, words.x & 0xffff0000u, words.y << 16, words.y & 0xffff0000u));
}
vec4 f16_pairs(uvec2 words) { return vec4(unpackHalf2x16(words.x), unpackHalf2x16(words.y)); }

bool has_nibbles(uint layout_id) { return layout_id == WISP_LAYOUT_Q4S || layout_id == WISP_LAYOUT_Q4A; }
bool has_minimum(uint layout_id) { return layout_id == WISP_LAYOUT_Q4A || layout_id == WISP_LAYOUT_Q8A; }

uint block_vectors(uint layout_id) {  // uvec4 of a block
  return layout_id == WISP_LAYOUT_F32 ? 8u
       : layout_id <= WISP_LAYOUT_BF16 ? 4u
       : layout_id <= WISP_LAYOUT_Q4A ? 1u : 2u;
}

uint vector_parts(uint layout_id) { return 8u / block_vectors(layout_id); }  // groups of 4 weights in a uvec4

// Weights 4 * part .. 4 * part + 3 of a uvec4, before scale and minimum; symmetric nibbles less `less`.
vec4 vector_part(uint layout_id, uvec4 v, uint part, float less) {
  if (layout_id == WISP_LAYOUT_F32) return uintBitsToFloat(v);
  if (layout_id == WISP_LAYOUT_F16) return f16_pairs(part == 0u ? v.xy : v.zw);
  if (layout_id == WISP_LAYOUT_BF16) return bf16_pairs(part == 0u ? v.xy : v.zw);
  if (layout_id <= WISP_LAYOUT_Q4A) return nibbles(v[part >> 1] >> (16u * (part & 1u)), layout_id == WISP_LAYOUT_Q4S ? less : 0.0);
  return signed_bytes(v[part]);
}
vec4 vector_part(uint layout_id, uvec4 v, uint part) { return vector_part(layout_id, v, part, 0.0); }

// The word that holds a block's scale. index: (row / 8 * blocks of a row + block) * 8 + row % 8
uint scale_word(Matrix m, uint index) {
  if (m.layout_id <= WISP_LAYOUT_BF16) return 0u;
  const bool two_rows = m.layout_id == WISP_LAYOUT_Q4S || m.layout_id == WISP_LAYOUT_Q8S;
  return weights[m.scales + (two_rows ? index >> 1 : index)];
}

// (scale, minimum) of a block's weights, second_half: of its weights 16 to 31. weight = quant * scale + minimum.
vec2 word_scale(uint layout_id, uint word, uint index, bool second_half) {
  if (layout_id <= WISP_LAYOUT_BF16) return vec2(1.0, 0.0);
  const vec2 pair = unpackHalf2x16(word);
  if (layout_id == WISP_LAYOUT_Q4S || layout_id == WISP_LAYOUT_Q8S) {
    const float scale = (index & 1u) == 0u ? pair.x : pair.y;
    return vec2(scale, layout_id == WISP_LAYOUT_Q4S ? -8.0 * scale : 0.0);
  }
  if (layout_id == WISP_LAYOUT_Q8H) return vec2(second_half ? pair.y : pair.x, 0.0);
  return pair;
}

vec2 block_scale(Matrix m, uint index, bool second_half) {
  return word_scale(m.layout_id, scale_word(m, index), index, second_half);
}
