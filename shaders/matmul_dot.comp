#version 450
// SPDX-License-Identifier: Apache-2.0
// Matrix times COLUMNS tokens of a batch with packed 8-bit dot products: as matmul.comp, an invocation takes ROWS_EACH rows of all
// matrices together, but inputs come from prepare.comp as codes, bytes with which a block's sums are exact:
//   BYTES  w8a8: the 8 bits; step and zero point are the column's
//   PAIRS  16 bits, 256 * the second byte + the first, zero being 2^15; the step is the block's
// Bytes have no sign: such dot products are fast on more devices than signed ones.
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

// OpUDot of bytes packed into words (format 0): GL_EXT_integer_dot_product, which older compilers do not know.
spirv_instruction(extensions = ["SPV_KHR_integer_dot_product"], capabilities = [6019, 6018], id = 4451)
uint packed_dot(uint a, uint b, spirv_literal int format);

uint dot16(uvec4 a, uvec4 b) {
  return packed_dot(a.x, b.x, 0) + packed_dot(a.y, b.y, 0) + packed_dot(a.z, b.z, 0) + packed_dot(a.w, b.w, 0);
}

const uint BLOCKS = TILE / 32u;                          // staged at a time
const uint VECTORS = FORM == WISP_FORM_PAIRS ? 4u : 2u;  // of codes of a block
const uint GROUPS = ONE_LAYOUT && LAYOUT0 != WISP_LAYOUT_Q8H ? 1u : 2u;  // of weights in a block, with a scale each
const uint TOTALS = ROW_BLOCKS * VECTORS;                // where steps and totals lie behind a column's codes, in vectors
const uint FACTOR = X_STRIDE / 4u - 1u;                  // where the column's factor and zero point do

shared uvec4 staged[COLUMNS * BLOCKS * VECTORS];  // [COLUMNS][BLOCKS][VECTORS]
shared uvec4 totals[COLUMNS * BLOCKS];            // of a block: its step; the sums of the inputs of both halves, in steps
shared vec4 factors[COLUMNS];                     // of a column: its factor; its zero point

// First vector of a column's inputs; those behind the last are taken for it.
uint column_begin(uint column, uint end) { return (X + min(column, end - 1u) * X_STRIDE) / 4u; }

// 4 bits each of a half word to the bytes of a word
uint spread(uint nibbles) {
  const uint bytes = (nibbles | nibbles << 8) & 0x00ff00ffu;
  return (bytes | bytes << 4) & 0x0f0f0f0fu;
}

// The quants of weights 16 half .. 16 half + 15 of a block as bytes, signed ones plus 128. index: of the row's block, as for
// scale_word.
uvec4 load_codes(Matrix m, uint index, uint half_index) {
  const uint first = m.quants + index / 8u * block_vectors(m.layout_id) * 8u + index % 8u;
  if (m.layout_id > WISP_LAYOUT_Q4A) return weights4[first + 8u * half_index] ^ 0x80808080u;
  const uvec4 v = weights4[first];
  const uvec2 w = half_index == 0u ? v.xy : v.zw;
  return uvec4(spread(w.x & 0xffffu), spread(w.x >> 16), spread(w.y & 0xffffu), spread(w.y >> 16));
}

// sums += weights of block . inputs. In whole numbers, with quants w = W - bias and inputs x = X - zero, W and X being the bytes:
// w . x = W . X - zero (sum of W) - bias (sum of x). Of each half of the block apart where these have scales of their own.
void add_block(uint block, uint staged_block) {
  uvec4 codes[ROWS_EACH][2];
  uint zeros[ROWS_EACH][GROUPS];  // sums of W; PAIRS: times the zero point
  vec2 scales[ROWS_EACH][GROUPS];  // (scale, minimum)
  [[unroll]] for (uint t = 0u; t < ROWS_EACH; t++) {
    Matrix m = matrices[t];
    if (ONE_LAYOUT) m.layout_id = LAYOUT0;
    const uint index = (blocks[t] + block) * 8u + row_of(t) % 8u, word = scale_word(m, index);
    [[unroll]] for (uint g = 0u; g < GROUPS; g++) {
      zeros[t][g] = 0u;
      scales[t][g] = word_scale(m.layout_id, word, index, g == 1u);
    }
    [[unroll]] for (uint h = 0u; h < 2u; h++) {
      codes[t][h] = load_codes(m, index, h);
      zeros[t][h % GROUPS] += dot16(codes[t][h], uvec4(0x01010101u)) << (FORM == WISP_FORM_PAIRS ? 15u : 0u);
    }
  }
  [[unroll]] for (uint c = 0u; c < COLUMNS; c++) {
    const uint at = (c * BLOCKS + staged_block) * VECTORS;
    const uvec4 total = totals[c * BLOCKS + staged_block];
    const uint group_totals[2] = {GROUPS == 1u ? total.y + total.z : total.y, total.z};
    uint first_sums[ROWS_EACH][GROUPS], second_sums[ROWS_EACH][GROUPS];  // of W . X by the byte of X
    [[unroll]] for (uint h = 0u; h < 2u; h++) {
      const uvec4 first = staged[at + h], second = FORM == WISP_FORM_PAIRS ? staged[at + 2u + h] : uvec4(0u);
      [[unroll]] for (uint t = 0u; t < ROWS_EACH; t++) {
        first_sums[t][h % GROUPS] = dot16(codes[t][h], first) + (h < GROUPS ? 0u : first_sums[t][0]);
        if (FORM == WISP_FORM_PAIRS)
          second_sums[t][h % GROUPS] = dot16(codes[t][h], second) + (h < GROUPS ? 0u : second_sums[t][0]);
      }
    }
    [[unroll]] for (uint t = 0u; t < ROWS_EACH; t++) {
      const uint layout_id = ONE_LAYOUT ? LAYOUT0 : matrices[t].layout_id;
      float sum = 0.0;
      [[unroll]] for (uint g = 0u; g < GROUPS; g++) {
        uint product = first_sums[t][g];
        if (FORM == WISP_FORM_PAIRS) product += (second_sums[t][g] << 8) - zeros[t][g];
        if (layout_id > WISP_LAYOUT_Q4A) product -= group_totals[g] << 7;
        float exact = float(int(product));
        if (FORM == WISP_FORM_BYTES) exact -= factors[c].y * float(zeros[t][g]);  // all below 2^24
        sum += scales[t][g].x * exact + scales[t][g].y * float(int(group_totals[g]));
      }
      sums[t][c] += uintBitsToFloat(total.x) * sum;
    }
  }
}

void main() {
  const uint id = gl_LocalInvocationID.x;
  const uint first = gl_WorkGroupID.y * COLUMNS, end = steps[WISP_STEP_COUNT];
  take_rows();
  if (id < COLUMNS) factors[id] = uintBitsToFloat(data4[column_begin(first + id, end) + FACTOR]);
  for (uint begin = 0u; begin < ROW_BLOCKS; begin += BLOCKS) {
    const uint count = min(BLOCKS, ROW_BLOCKS - begin);
    barrier();
    for (uint i = id; i < COLUMNS * BLOCKS * VECTORS; i += LOCAL) {
      const uint vector = i % (BLOCKS * VECTORS), column = i / (BLOCKS * VECTORS);
      if (vector < count * VECTORS) staged[i] = data4[column_begin(first + column, end) + begin * VECTORS + vector];
    }
    for (uint i = id; i < COLUMNS * BLOCKS; i += LOCAL)
      if (i % BLOCKS < count) totals[i] = data4[column_begin(first + i / BLOCKS, end) + TOTALS + begin + i % BLOCKS];
    barrier();
    [[dont_unroll]] for (uint b = 0u; b < count; b++) add_block(begin + b, b);
  }
  [[unroll]] for (uint c = 0u; c < COLUMNS; c++)
    [[unroll]] for (uint t = 0u; t < ROWS_EACH; t++) sums[t][c] *= factors[c].x;
  finish_rows(first, end);
}
