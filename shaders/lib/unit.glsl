// SPDX-License-Identifier: Apache-2.0
// A unit: 1 / parts of a block of 32 weights of a row, loaded well before it is used. Inputs are staged in shared memory.
// The including file declares inputs[], vec4, and INPUT_STRIDE, vec4 from block to block of it.

struct Unit {  // at most 16 words, as they were loaded
  uvec4 first, second, third, fourth;
  uint scale;
};

uint unit_index(uint row, uint blocks, uint block) { return (row / 8u * blocks + block) * 8u + row % 8u; }

uvec4 load_vector(Matrix m, uint index, uint vector) {
  const uint vectors = block_vectors(m.layout_id);
  return weights4[m.quants + (index / 8u * vectors + vector) * 8u + index % 8u];
}

Unit load_unit(Matrix m, uint index, uint part, uint parts) {
  const uint words = 4u * block_vectors(m.layout_id) / parts, first = part * words;
  Unit u;
  u.second = u.third = u.fourth = uvec4(0u);
  if (words >= 4u) {
    u.first = load_vector(m, index, first / 4u);
    if (words >= 8u) u.second = load_vector(m, index, first / 4u + 1u);
    if (words == 16u) u.third = load_vector(m, index, first / 4u + 2u);
    if (words == 16u) u.fourth = load_vector(m, index, first / 4u + 3u);
  } else {
    const uint at = 4u * (m.quants + (index / 8u * block_vectors(m.layout_id) + first / 4u) * 8u + index % 8u) + first % 4u;
    u.first = uvec4(weights[at], words == 2u ? weights[at + 1u] : 0u, 0u, 0u);
  }
  u.scale = scale_word(m, index);
  return u;
}

vec4 input4(uint element) { return inputs[element / 32u * INPUT_STRIDE + element / 4u % 8u]; }
// A unit's inputs, from element `first` on.
void take_inputs(uint first, uint parts, out vec4 x[8]) {
  [[unroll]] for (uint i = 0u; i < 8u; i++) {
    x[i] = vec4(0.0);
    if (i < 8u / parts) x[i] = input4(first + 4u * i);
  }
}
void set_input(uint element, float value) { inputs[element / 32u * INPUT_STRIDE + element / 4u % 8u][element % 4u] = value; }

// Nibbles stay where they are in their half word: component i of a product is 16^i times too large. The 8 that a symmetric layout
// subtracts goes with the mantissa's.
const uvec4 NIBBLES = uvec4(0xfu, 0xf0u, 0xf00u, 0xf000u);
const vec4 NIBBLE_SCALES = vec4(1.0, 0.0625, 0.00390625, 0.000244140625);
vec4 placed_nibbles(uint layout_id, uint word) {
  return mantissa(word & NIBBLES) - (layout_id == WISP_LAYOUT_Q4S ? vec4(8388616.0, 8388736.0, 8390656.0, 8421376.0) : vec4(8388608.0));
}

// Weights of `words` words times x[first], x[first + 1] and so on.
vec4 dot_words(uint layout_id, uvec4 v, uint words, vec4 x[8], uint first) {
  vec4 sum = vec4(0.0);
  if (has_nibbles(layout_id)) {
    [[unroll]] for (uint i = 0u; i < 4u; i++) {
      if (i < words) {
        sum += placed_nibbles(layout_id, v[i]) * x[first + 2u * i];
        sum += placed_nibbles(layout_id, v[i] >> 16) * x[first + 2u * i + 1u];
      }
    }
    sum *= NIBBLE_SCALES;
  } else if (layout_id > WISP_LAYOUT_BF16) {
    [[unroll]] for (uint i = 0u; i < 4u; i++) if (i < words) sum += signed_bytes(v[i]) * x[first + i];
  } else if (layout_id == WISP_LAYOUT_F32) {
    sum = uintBitsToFloat(v) * x[first];
  } else {
    const bool half_floats = layout_id == WISP_LAYOUT_F16;
    sum = (half_floats ? f16_pairs(v.xy) : bf16_pairs(v.xy)) * x[first];
    sum += (half_floats ? f16_pairs(v.zw) : bf16_pairs(v.zw)) * x[first + 1u];
  }
  return sum;
}

float add_up(vec4 v) { return (v.x + v.y) + (v.z + v.w); }

// Unit number `part` of its block times its inputs x[0 .. 8 / parts). row: as even as the unit's row.
float dot_unit(uint layout_id, Unit u, uint row, uint part, uint parts, vec4 x[8]) {
  const uint vectors = block_vectors(layout_id), words = 4u * vectors / parts, each = 8u / vectors;  // vec4 of inputs for a vector
  const bool halves = layout_id == WISP_LAYOUT_Q8H;
  const vec2 scale = word_scale(layout_id, u.scale, row, parts == 1u || part >= parts / 2u);
  vec4 sum = dot_words(layout_id, u.first, words < 4u ? words : 4u, x, 0u);
  float first_half = 0.0;
  if (words >= 8u) {
    if (halves && parts == 1u) {
      first_half = word_scale(layout_id, u.scale, row, false).x * add_up(sum);
      sum = vec4(0.0);
    }
    sum += dot_words(layout_id, u.second, 4u, x, each);
    if (words == 16u) sum += dot_words(layout_id, u.third, 4u, x, 2u * each) + dot_words(layout_id, u.fourth, 4u, x, 3u * each);
  }
  float minimum = 0.0;
  if (has_minimum(layout_id)) {
    vec4 input_sum = vec4(0.0);
    [[unroll]] for (uint i = 0u; i < 8u; i++) if (i < 8u / parts) input_sum += x[i];
    minimum = scale.y * add_up(input_sum);
  }
  return first_half + scale.x * add_up(sum) + minimum;
}
