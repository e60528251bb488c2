// SPDX-License-Identifier: Apache-2.0
// matrix.comp's inputs staged as floats, and their products with weights.
#include "lib/hadamard.glsl"

layout(constant_id = WISP_C_ROUND) const uint ROUND = 0;

const uint TILE_VECTORS = TILE / 4u;
shared vec4 staged[TILE_VECTORS];

float scale, inverse, zero;  // of inputs that are rounded to 8 bits, as in wisp_reference_round_int8

// The tile's inputs, transformed as in wisp_reference_hadamard, not yet rounded. All invocations must call. In shared memory: a block
// of 32 in registers would spill. An invocation's vectors are then those from its id on, LOCAL apart.
void stage_transformed(uint column, uint begin, inout float squares) {
  const uint id = gl_LocalInvocationID.x;
  for (uint i = id; i < TILE_VECTORS; i += LOCAL) {
    const vec4 v = begin + 4u * i < COLS ? load_input(column, begin / 4u + i, squares) : vec4(0.0);
    staged[i] = COLS % 32u == 0u ? hadamard_vector(v) : v;
  }
  if (COLS % 32u != 0u) return;
  barrier();
  [[dont_unroll]] for (uint step = 1u; step < 8u; step <<= 1) {
    for (uint pair = id; pair < TILE_VECTORS / 2u; pair += LOCAL) {
      const uint i = 2u * pair - (pair & step - 1u);
      const vec4 a = staged[i], b = staged[i + step];
      staged[i] = a + b;
      staged[i + step] = a - b;
    }
    barrier();
  }
}

// Likewise. squares: of all inputs. A single tile is then staged, but for the rounding.
void find_rounding(uint column, inout float squares) {
  if (ROUND != 1u) return;
  vec4 low = vec4(0.0), high = vec4(0.0);
  for (uint begin = 0u; begin < COLS; begin += TILE) {
    stage_transformed(column, begin, squares);
    for (uint i = gl_LocalInvocationID.x; i < TILE_VECTORS; i += LOCAL) {
      low = min(low, staged[i]);
      high = max(high, staged[i]);
    }
  }
  const float lowest = -reduce_max(-min(min(low.x, low.y), min(low.z, low.w)));
  scale = (reduce_max(max(max(high.x, high.y), max(high.z, high.w))) - lowest) / 255.0;
  inverse = scale > 0.0 ? 1.0 / scale : 0.0;
  zero = clamp(roundEven(-lowest * inverse), 0.0, 255.0);
}

// The tile of features that starts at `begin`.
void stage(uint column, uint begin, uint features, inout float squares) {
  const uint id = gl_LocalInvocationID.x;
  if (ROUND == 1u) {
    float counted = 0.0;
    if (TILE < COLS) stage_transformed(column, begin, counted);
    for (uint i = id; i < TILE_VECTORS; i += LOCAL)
      staged[i] = scale * clamp(roundEven(staged[i] * inverse), -zero, 255.0 - zero);
  } else {
    for (uint i = id; i < TILE_VECTORS; i += LOCAL)
      staged[i] = 4u * i < features ? load_input(column, begin / 4u + i, squares) : vec4(0.0);
  }
}

// Weights of the row's block . staged inputs
float dot_block(Matrix m, uint block, uint row_in_tile, uint staged_block) {
  const uint vectors = block_vectors(m.layout_id), parts = vector_parts(m.layout_id);
  const uint first = m.quants + block * vectors * 8u + row_in_tile;
  float sum = 0.0, first_half = 0.0, total = 0.0;
  [[unroll]] for (uint i = 0u; i < vectors; i++) {
    uvec4 v = weights4[first + 8u * i];
    // 16 inputs at a time: with all 32 unrolled a compiler asks for them at once, and they take half of the occupancy.
    [[dont_unroll]] for (uint begin = 0u; begin < parts; begin += 4u) {
      [[unroll]] for (uint part = 0u; part < 4u; part++) {
        if (part >= parts) break;
        const vec4 x = staged[staged_block * 8u + i * parts + begin + part];
        sum += dot(vector_part(m.layout_id, v, part, 8.0), x);
        if (has_minimum(m.layout_id)) total += dot(vec4(1.0), x);
      }
      v.xy = v.zw;
    }
    if (m.layout_id == WISP_LAYOUT_Q8H && i == 0u) {  // the first half has a scale of its own
      first_half = block_scale(m, block * 8u + row_in_tile, false).x * sum;
      sum = 0.0;
    }
  }
  const vec2 scale = block_scale(m, block * 8u + row_in_tile, true);
  sum = first_half + scale.x * sum;
  return has_minimum(m.layout_id) ? sum + scale.y * total : sum;
}
