#version 450
// SPDX-License-Identifier: Apache-2.0
// The ops of decode that norm their inputs, for GPUs where latency is all that counts. Inputs are staged in shared memory; a workgroup
// makes TILE_ROWS rows of each matrix, a team of 8 * ROW_UNITS invocations a tile of 8 rows at a time: 8 neighbours take the same unit
// (lib/unit.glsl) of the 8 rows, the same for every tile, so that its inputs stay in registers. All that can be loaded before the inputs
// are there is. HEAD as in matrix.comp. QKV and GATE_UP read the residual stream of lib/residual.glsl, its half push.residual:
//   QKV      as in matrix.comp; its first workgroup clears the other half
//   GATE_UP  goes on with its hidden units' share of down: those columns of M times h are added to the other half, and by the first
//            workgroup the stream itself
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#include "lib/bindings.glsl"
#include "lib/weights.glsl"
#include "lib/half.glsl"
#ifdef HEAD
layout(constant_id = WISP_C_X) const uint X = 0;
layout(constant_id = WISP_C_X_STRIDE) const uint X_STRIDE = 32;
#else
#include "lib/residual.glsl"
#endif

layout(constant_id = WISP_C_COLS) const uint COLS = 32;
layout(constant_id = WISP_C_TILE_ROWS) const uint TILE_ROWS = 8;
layout(constant_id = WISP_C_PARTS) const uint PARTS = 1;
layout(constant_id = WISP_C_NORM) const uint NORM = 0;
layout(constant_id = WISP_C_EPSILON) const float EPSILON = 0.0;

const uint INPUT_STRIDE = 9;  // a block apart from its neighbour's banks
const uint BLOCKS = (COLS + 31u) / 32u;
const uint ROW_UNITS = BLOCKS * PARTS;
const uint UNITS = TILE_ROWS * ROW_UNITS;
const uint MOST_AHEAD = 4u;
layout(constant_id = WISP_C_AHEAD) const uint AHEAD = 1;       // rounds whose weights an invocation loads at a time, at most MOST_AHEAD
const uint MOST_SHARE = 8u;  // elements of the inputs that an invocation stages

shared vec4 inputs[(BLOCKS + 1u) * INPUT_STRIDE];
shared float squares[LOCAL / 8u];  // of the subgroups
#ifdef GATE_UP
shared vec2 partials[UNITS];
#else
shared float partials[UNITS];
#endif
#ifdef HEAD
shared float tile_best[TILE_ROWS / 8u];
shared uint tile_row[TILE_ROWS / 8u];
#endif

#include "lib/unit.glsl"
#include "lib/epilogue.glsl"

#ifdef HEAD
layout(constant_id = WISP_C_CANDIDATES) const uint CANDIDATES = 0;
layout(constant_id = WISP_C_CANDIDATE_STRIDE) const uint CANDIDATE_STRIDE = 0;
layout(constant_id = WISP_C_CANDIDATE_BEGIN) const uint CANDIDATE_BEGIN = 0;
#endif

#ifdef GATE_UP
layout(constant_id = WISP_C_DOWN_AHEAD) const uint DOWN_AHEAD = 0;  // rounds of down that it loads at the start
const uint DOWN_PARTS = 32u / TILE_ROWS, DOWN_BLOCKS = (ROWS + 31u) / 32u;
const uint DOWN_ROUNDS = (COLS + LOCAL - 1u) / LOCAL;
layout(constant_id = WISP_C_LAYOUT2) const uint LAYOUT2 = 0;
layout(constant_id = WISP_C_QUANTS2) const uint QUANTS2 = 0;
layout(constant_id = WISP_C_SCALES2) const uint SCALES2 = 0;
#endif

uint id = gl_LocalInvocationID.x;

const uint TEAM = 8u * ROW_UNITS, TEAMS = LOCAL / TEAM;
const uint ROUNDS = (TILE_ROWS / 8u + TEAMS - 1u) / TEAMS;
uint unit = id % TEAM / 8u;

// The k-th row of this invocation; false: none.
bool place(uint k, out uint group_row) {
  group_row = 8u * (k * TEAMS + id / TEAM) + id % 8u;
  return id / TEAM < TEAMS && group_row < TILE_ROWS && gl_WorkGroupID.x * TILE_ROWS + group_row < ROWS;
}

void load_round(uint k, out Unit first, out Unit second) {
  uint group_row;
  if (!place(k, group_row)) return;
  uint row = gl_WorkGroupID.x * TILE_ROWS + group_row;
  const Matrix m = matrix_of_row(row);
  first = load_unit(m, unit_index(row, BLOCKS, unit / PARTS), unit % PARTS, PARTS);
#ifdef GATE_UP
  second = load_unit(Matrix(LAYOUT1, QUANTS1, SCALES1), unit_index(row, BLOCKS, unit / PARTS), unit % PARTS, PARTS);
#endif
}

void multiply_round(uint k, Unit first, Unit second, vec4 x[8]) {
  uint group_row;
  if (!place(k, group_row)) return;
  uint row = gl_WorkGroupID.x * TILE_ROWS + group_row;
  const uint at = group_row / 8u * TEAM + 8u * unit + id % 8u;
#ifdef GATE_UP
  partials[at] = vec2(dot_unit(LAYOUT0, first, row, unit % PARTS, PARTS, x), dot_unit(LAYOUT1, second, row, unit % PARTS, PARTS, x));
#else
  partials[at] = dot_unit(matrix_of_row(row).layout_id, first, row, unit % PARTS, PARTS, x);
#endif
}

#ifdef HEAD
#define STREAM float
float load_stream(uint i) { return data[X + (push.first_column + gl_WorkGroupID.y) * X_STRIDE + i]; }
#define stream_value(x) (x)
#else
#define STREAM uint64_t
uint64_t load_stream(uint i) { return residual[push.residual * COLS + i]; }
#define stream_value(x) from_fixed(x)
#endif

// What staging takes of the inputs, asked for before any weights: loads are answered in the order in which they were asked for.
STREAM stream[MOST_SHARE];
float norm[MOST_SHARE];

void load_inputs() {
  [[unroll]] for (uint k = 0u; k < MOST_SHARE; k++) {
    const uint i = id + k * LOCAL;
    stream[k] = STREAM(0);
    norm[k] = 0.0;
    if (k * LOCAL < COLS && i < COLS) {
      stream[k] = load_stream(i);
      norm[k] = uintBitsToFloat(weights[4u * NORM + i]);
    }
  }
}

// x times the norm's weights to inputs; the sum of squares to squares, one for each subgroup.
void stage() {
  float square = 0.0;
  [[unroll]] for (uint k = 0u; k < MOST_SHARE; k++) {
    const uint i = id + k * LOCAL;
    if (k * LOCAL < 32u * BLOCKS && i < 32u * BLOCKS) {
      const float x = stream_value(stream[k]);
      square += x * x;
      set_input(i, x * norm[k]);
    }
  }
  for (uint mask = 1u; mask < gl_SubgroupSize; mask <<= 1) square += subgroupShuffleXor(square, mask);
  if (id % gl_SubgroupSize == 0u) squares[id / gl_SubgroupSize] = square;
}

float norm_factor() {
  float sum = 0.0;
  for (uint i = id % gl_SubgroupSize; i < LOCAL / gl_SubgroupSize; i += gl_SubgroupSize) sum += squares[i];
  for (uint mask = 1u; mask < gl_SubgroupSize; mask <<= 1) sum += subgroupShuffleXor(sum, mask);
  return inversesqrt(sum / float(COLS) + EPSILON);
}

#ifdef GATE_UP
Unit load_down(uint k) {
  const Matrix m = Matrix(LAYOUT2, QUANTS2, SCALES2);
  return load_unit(m, unit_index(id + k * LOCAL, DOWN_BLOCKS, gl_WorkGroupID.x / DOWN_PARTS), gl_WorkGroupID.x % DOWN_PARTS, DOWN_PARTS);
}
bool has_down(uint k) { return k < DOWN_ROUNDS && id + k * LOCAL < COLS; }
#endif

void main() {
  load_inputs();
  Unit first[MOST_AHEAD], second[MOST_AHEAD];
  [[unroll]] for (uint k = 0u; k < MOST_AHEAD; k++) if (k < AHEAD) load_round(k, first[k], second[k]);
  // The tile of 8 rows that this subgroup will add up, lanes id % 8 a row, the others its units.
  const uint tile = id / gl_SubgroupSize, lane = id % gl_SubgroupSize;
  const uint row = gl_WorkGroupID.x * TILE_ROWS + 8u * tile + id % 8u;
  const bool adds = tile < TILE_ROWS / 8u, writes = adds && lane < 8u && row < ROWS;
#ifdef GATE_UP
  Unit down[MOST_AHEAD];
  uint64_t own[MOST_AHEAD];
  [[unroll]] for (uint k = 0u; k < MOST_AHEAD; k++) {
    if (k < DOWN_AHEAD && has_down(k)) down[k] = load_down(k);
    own[k] = uint64_t(0);
    if (has_down(k) && gl_WorkGroupID.x == 0u) own[k] = load_stream(id + k * LOCAL);
  }
#endif
#ifdef QKV
  const uint position = steps[WISP_STEP_POSITION];
  const vec2 turn = writes ? load_pair(row / 2u * 2u, 0u) : vec2(0.0);
  if (gl_WorkGroupID.x == 0u) for (uint i = id; i < COLS; i += LOCAL) residual[(1u - push.residual) * COLS + i] = uint64_t(0);
#endif
  stage();
  barrier();
  vec4 x[8];
  take_inputs(32u / PARTS * unit, PARTS, x);
  for (uint begin = 0u; begin < ROUNDS; begin += AHEAD) {
    if (begin > 0u) [[unroll]] for (uint k = 0u; k < MOST_AHEAD; k++) if (k < AHEAD) load_round(begin + k, first[k], second[k]);
    [[unroll]] for (uint k = 0u; k < MOST_AHEAD; k++) if (k < AHEAD) multiply_round(begin + k, first[k], second[k], x);
  }
  barrier();

  const float factor = norm_factor();
  if (adds) {
    const uint lanes = gl_SubgroupSize / 8u;
#ifdef GATE_UP
    vec2 sum = vec2(0.0);
#else
    float sum = 0.0;
#endif
    for (uint begin = lane / 8u; begin < ROW_UNITS; begin += 4u * lanes) {
      [[unroll]] for (uint i = 0u; i < 4u; i++) {  // four loads at a time
        const uint unit = begin + i * lanes;
        if (unit < ROW_UNITS) sum += partials[(tile * ROW_UNITS + unit) * 8u + id % 8u];
      }
    }
    for (uint mask = 8u; mask < gl_SubgroupSize; mask <<= 1) sum += subgroupShuffleXor(sum, mask);
    sum *= factor;
#if defined(GATE_UP)
    if (lane < 8u) set_input(32u * BLOCKS + 8u * tile + lane, row < ROWS ? activation(sum.x, GELU) * sum.y : 0.0);
#elif defined(QKV)
    if (BIAS != 0u && row < ROWS) sum += bias(row);
    const float next = subgroupShuffleXor(sum, 1u);
    if (writes && id % 2u == 0u) finish_pair(row, 0u, position, vec2(sum, next), turn);
#else
    const uint column = push.first_column + gl_WorkGroupID.y;
    if (writes) finish(row, column, sum);
    // The tile's best: 8 neighbours, every eight the same.
    float best = row < ROWS && !isnan(sum) ? sum : MINUS_INFINITY;
    uint best_row = row;
    [[unroll]] for (uint mask = 1u; mask < 8u; mask <<= 1) {
      const float other = subgroupShuffleXor(best, mask);
      const uint other_row = subgroupShuffleXor(best_row, mask);
      if (other > best || (other == best && other_row < best_row)) {
        best = other;
        best_row = other_row;
      }
    }
    if (lane == 0u) {
      tile_best[tile] = best;
      tile_row[tile] = best_row;
    }
#endif
  }

#ifdef HEAD
  barrier();
  if (id == 0u) {
    uint winner = 0u;
    for (uint i = 1u; i < TILE_ROWS / 8u; i++) if (tile_best[i] > tile_best[winner]) winner = i;
    const uint candidate = CANDIDATES + 2u * (gl_WorkGroupID.y * CANDIDATE_STRIDE + CANDIDATE_BEGIN + gl_WorkGroupID.x);
    data[candidate] = tile_best[winner];
    data[candidate + 1u] = tile_best[winner] == MINUS_INFINITY ? 0.0 : float(ROW_BEGIN + tile_row[winner]);
  }
#endif
#ifdef GATE_UP
  barrier();
  const uint part = gl_WorkGroupID.x % DOWN_PARTS;
  take_inputs(32u * BLOCKS, DOWN_PARTS, x);
  [[unroll]] for (uint k = 0u; k < MOST_AHEAD; k++) if (k >= DOWN_AHEAD && has_down(k)) down[k] = load_down(k);
  [[unroll]] for (uint k = 0u; k < MOST_AHEAD; k++) {
    if (!has_down(k)) continue;
    const uint x_row = id + k * LOCAL;
    const float share = dot_unit(LAYOUT2, down[k], x_row, part, DOWN_PARTS, x);
    atomicAdd(residual[(1u - push.residual) * COLS + x_row], to_fixed(share) + own[k]);
  }
#endif
}
