#version 450
// SPDX-License-Identifier: Apache-2.0
// Matrix times COLUMNS tokens of a batch with packed 8-bit dot products: as matmul.comp, an invocation takes ROWS_EACH rows of all
// matrices together, but inputs come from prepare.comp as codes, signed bytes, with which a block's sums are exact:
//   BYTES  w8a8: a code is the 8 bits less 128, of which the zero point's distance is left; the step is the column's
//   PAIRS  16 bits, 256 * the second byte + the first; the step is the block's
// Grid: (ceil(ROWS / (LOCAL * TILES)), ceil(columns / COLUMNS)).
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_spirv_intrinsics : require
#include "lib/bindings.glsl"
#include "lib/weights.glsl"
#include "lib/half.glsl"
#include "lib/epilogue.glsl"
#include "lib/batch_rows.glsl"

layout(constant_id = WISP_C_TILE) const uint TILE = 32;
layout(constant_id = WISP_C_X) const uint X = 0;
layout(constant_id = WISP_C_X_STRIDE) const uint X_STRIDE = 32;
layout(constant_id = WISP_C_FORM) const uint FORM = WISP_FORM_PAIRS;

layout(set = 0, binding = WISP_BIND_DATA_VEC4) readonly buffer DataVec4 { uvec4 data4[]; };

// OpSDot of bytes packed into words (format 0): GL_EXT_integer_dot_product, which older compilers do not know.
spirv_instruction(extensions = ["SPV_KHR_integer_dot_product"], capabilities = [6019, 6018], id = 4450)
int packed_dot(uint a, uint b, spirv_literal int format);

int dot16(uvec4 a, uvec4 b) {
  return packed_dot(a.x, b.x, 0) + packed_dot(a.y, b.y, 0) + packed_dot(a.z, b.z, 0) + packed_dot(a.w, b.w, 0);
}

const uint BLOCKS = TILE / 32u;                          // staged at a time
const uint VECTORS = FORM == WISP_FORM_PAIRS ? 4u : 2u;  // of codes of a block
const uint STEPS = ROW_BLOCKS * VECTORS * 4u;            // where they lie behind a column's codes, in words
const uint FACTOR = X_STRIDE - 4u;                       // where the column's factor does, and 128 less its zero point

shared uvec4 staged[COLUMNS * BLOCKS * VECTORS];  // [COLUMNS][BLOCKS][VECTORS]
shared vec2 steps_and_sums[COLUMNS * BLOCKS];     // of a block: its step; its inputs' sum
shared vec4 factors[COLUMNS];                     // of a column: its factor; 128 less its zero point

// First vector of a column's inputs; those behind the last are taken for it.
uint column_begin(uint column, uint end) { return (X + min(column, end - 1u) * X_STRIDE) / 4u; }

// 4 bits each of a half word to the bytes of a word
uint spread(uint nibbles) {
  const uint bytes = (nibbles | nibbles << 8) & 0x00ff00ffu;
  return (bytes | bytes << 4) & 0x0f0f0f0fu;
}

// The quants of weights 16 half .. 16 half + 15 of a block as bytes. index: of the row's block, as for scale_word.
uvec4 load_codes(Matrix m, uint index, uint half_index) {
  const uint first = index / 8u * block_vectors(m.layout_id) * 8u + index % 8u;
  if (m.layout_id > WISP_LAYOUT_Q4A) return weights4[m.quants + first + 8u * half_index];
  const uvec4 v = weights4[m.quants + first];
  const uvec2 w = half_index == 0u ? v.xy : v.zw;
  return uvec4(spread(w.x & 0xffffu), spread(w.x >> 16), spread(w.y & 0xffffu), spread(w.y >> 16));
}

// sums += weights of block . inputs
void add_block(uint block, uint staged_block) {
  uvec4 codes[ROWS_EACH][2];
  ivec2 totals[ROWS_EACH];  // of the codes of both halves
  vec4 scales[ROWS_EACH];   // (scale, minimum) of both halves
  [[unroll]] for (uint t = 0u; t < ROWS_EACH; t++) {
    Matrix m = matrices[t];
    if (ONE_LAYOUT) m.layout_id = LAYOUT0;
    const uint index = (blocks[t] + block) * 8u + row_of(t) % 8u, word = scale_word(m, index);
    scales[t] = vec4(word_scale(m.layout_id, word, index, false), word_scale(m.layout_id, word, index, true));
    [[unroll]] for (uint h = 0u; h < 2u; h++) {
      codes[t][h] = load_codes(m, index, h);
      totals[t][h] = FORM == WISP_FORM_BYTES ? dot16(codes[t][h], uvec4(0x01010101u)) : 0;
    }
  }
  [[unroll]] for (uint c = 0u; c < COLUMNS; c++) {
    const uint at = (c * BLOCKS + staged_block) * VECTORS;
    const vec2 step_and_sum = steps_and_sums[c * BLOCKS + staged_block];
    ivec2 products[ROWS_EACH];  // of both halves
    [[unroll]] for (uint h = 0u; h < 2u; h++) {
      const uvec4 first = staged[at + h];
      [[unroll]] for (uint t = 0u; t < ROWS_EACH; t++) products[t][h] = dot16(codes[t][h], first);
      if (FORM == WISP_FORM_PAIRS) {
        const uvec4 second = staged[at + 2u + h];
        [[unroll]] for (uint t = 0u; t < ROWS_EACH; t++) products[t][h] += dot16(codes[t][h], second) << 8;
      } else {
        [[unroll]] for (uint t = 0u; t < ROWS_EACH; t++) products[t][h] += int(factors[c].y) * totals[t][h];
      }
    }
    [[unroll]] for (uint t = 0u; t < ROWS_EACH; t++) {
      const bool halves = (ONE_LAYOUT ? LAYOUT0 : matrices[t].layout_id) == WISP_LAYOUT_Q8H;
      const float product = halves ? dot(scales[t].xz, vec2(products[t])) : scales[t].x * float(products[t].x + products[t].y);
      sums[t][c] += step_and_sum.x * product + scales[t].y * step_and_sum.y;
    }
  }
}

void main() {
  const uint id = gl_LocalInvocationID.x;
  const uint first = gl_WorkGroupID.y * COLUMNS, end = steps[WISP_STEP_COUNT];
  take_rows();
  if (id < COLUMNS) factors[id] = uintBitsToFloat(data4[column_begin(first + id, end) + FACTOR / 4u]);
  for (uint begin = 0u; begin < ROW_BLOCKS; begin += BLOCKS) {
    const uint count = min(BLOCKS, ROW_BLOCKS - begin);
    barrier();
    for (uint i = id; i < COLUMNS * BLOCKS * VECTORS; i += LOCAL) {
      const uint vector = i % (BLOCKS * VECTORS), column = i / (BLOCKS * VECTORS);
      if (vector < count * VECTORS) staged[i] = data4[column_begin(first + column, end) + begin * VECTORS + vector];
    }
    for (uint i = id; i < COLUMNS * BLOCKS; i += LOCAL) {
      const uint block = i % BLOCKS;
      if (block < count) {
        const uvec4 two = data4[column_begin(first + i / BLOCKS, end) + STEPS / 4u + (begin + block) / 2u];
        steps_and_sums[i] = uintBitsToFloat((begin + block) % 2u == 0u ? two.xy : two.zw);
      }
    }
    barrier();
    for (uint b = 0u; b < count; b++) add_block(begin + b, b);
  }
  [[unroll]] for (uint c = 0u; c < COLUMNS; c++)
    [[unroll]] for (uint t = 0u; t < ROWS_EACH; t++) sums[t][c] *= factors[c].x;
  finish_rows(first, end);
}
