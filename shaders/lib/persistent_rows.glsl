// SPDX-License-Identifier: Apache-2.0
// persistent.comp: rows of matrices times the staged inputs.
#include "lib/unit.glsl"

// Where unit k of this invocation lies; false: nowhere. unit: counted along the row, parts of them a block.
bool place(uint k, uint rows, uint units, uint slices, uint matrices, out uint slot, out uint row, out uint unit) {
  const uint rounds = CEIL(units, slices), teams = LOCAL / (4u * slices), team = id / (4u * slices);
  slot = k / rounds * teams + team;
  row = 4u * (slot / matrices * GROUPS + group) + id % 4u;
  unit = k % rounds * slices + id % (4u * slices) / 4u;
  return team < teams && row < rows && unit < units;
}

// What dot_words makes, added up. Nibbles stay where they lie in their half word, to spare shifts: 1, 16, 256, 4096 times as much.
float finish_dot(uint layout_id, vec4 sum) {
  return add_up(has_nibbles(layout_id) ? sum * vec4(1.0, 1.0 / 16.0, 1.0 / 256.0, 1.0 / 4096.0) : sum);
}

// Weights of `words` words times the inputs from `at` on, for finish_dot.
vec4 dot_words(uint layout_id, uvec4 v, uint words, uint at) {
  vec4 sum = vec4(0.0);
  if (has_nibbles(layout_id)) {
    const uvec4 places = uvec4(0xfu, 0xf0u, 0xf00u, 0xf000u);
    // The 8 that a symmetric layout subtracts goes with the mantissa's.
    const vec4 offset = 8388608.0 + (layout_id == WISP_LAYOUT_Q4S ? 8.0 * vec4(1.0, 16.0, 256.0, 4096.0) : vec4(0.0));
    [[unroll]] for (uint i = 0u; i < 4u; i++) {
      if (i < words) {
        sum += (mantissa(v[i] & places) - offset) * input4(at + 8u * i);
        sum += (mantissa(v[i] >> 16 & places) - offset) * input4(at + 8u * i + 4u);
      }
    }
  } else if (layout_id > WISP_LAYOUT_BF16) {
    [[unroll]] for (uint i = 0u; i < 4u; i++) if (i < words) sum += signed_bytes(v[i]) * input4(at + 4u * i);
  } else if (layout_id == WISP_LAYOUT_F32) {
    sum = uintBitsToFloat(v) * input4(at);
  } else {
    const bool half_floats = layout_id == WISP_LAYOUT_F16;
    sum = (half_floats ? f16_pairs(v.xy) : bf16_pairs(v.xy)) * input4(at);
    sum += (half_floats ? f16_pairs(v.zw) : bf16_pairs(v.zw)) * input4(at + 4u);
  }
  return sum;
}

float dot_unit(uint layout_id, Unit u, uint unit, uint parts) {
  const uint row = id % 4u;  // as even as the row itself
  const uint vectors = block_vectors(layout_id), words = 4u * vectors / parts, each = 32u / (4u * vectors), at = unit * (32u / parts);
  const bool halves = layout_id == WISP_LAYOUT_Q8H;
  const vec2 scale = word_scale(layout_id, u.scale, row, parts == 1u || unit % parts >= parts / 2u);
  vec4 sum = dot_words(layout_id, u.first, min(words, 4u), at);
  float first_half = 0.0;
  if (words >= 8u) {
    if (halves && parts == 1u) {
      first_half = word_scale(layout_id, u.scale, row, false).x * finish_dot(layout_id, sum);
      sum = vec4(0.0);
    }
    sum += dot_words(layout_id, u.second, 4u, at + 4u * each);
    if (words == 16u) sum += dot_words(layout_id, u.third, 4u, at + 8u * each) + dot_words(layout_id, u.fourth, 4u, at + 12u * each);
  }
  float minimum = 0.0;
  if (has_minimum(layout_id)) {
    vec4 input_sum = vec4(0.0);
    [[unroll]] for (uint i = 0u; i < 8u; i++) if (i < 8u / parts) input_sum += input4(at + 4u * i);
    minimum = scale.y * add_up(input_sum);
  }
  return first_half + scale.x * finish_dot(layout_id, sum) + minimum;
}

// A row's sum over the invocations of one subgroup, to partials.
void put_partial(float sum, uint slot, uint slots, uint slices) {
  const uint team = 4u * slices;
  [[unroll]] for (uint mask = 4u; mask < SUBGROUP; mask <<= 1) sum += subgroupShuffleXor(sum, mask);
  if (slot < slots && id / team < LOCAL / team && id % SUBGROUP < 4u)
    partials[(slot * (team / SUBGROUP) + id % team / SUBGROUP) * 4u + id % 4u] = sum;
}

float take_sum(uint slot, uint slices, uint row) {
  const uint each = 4u * slices / SUBGROUP;
  float sum = 0.0;
  [[unroll]] for (uint i = 0u; i < each; i++) sum += partials[(slot * each + i) * 4u + row % 4u];
  return sum;
}

Matrix at_window(uint window, uint layout_id, uint quants, uint scales) {
  return Matrix(layout_id, window + quants, 4u * window + scales);
}

// The matrix of a slot's row; row becomes the row inside it.
Matrix qkv_matrix(uint window, uint slot, inout uint row) {
  const bool is_q = row < Q_ROWS, is_k = row < Q_ROWS + KV_ROWS;
  row -= is_q ? 0u : is_k ? Q_ROWS : Q_ROWS + KV_ROWS;
  return at_window(window, Q_LAYOUT, is_q ? Q_QUANTS : is_k ? K_QUANTS : V_QUANTS, is_q ? Q_SCALES : is_k ? K_SCALES : V_SCALES);
}
Matrix gate_up_matrix(uint window, uint slot, inout uint row) {
  const bool up = slot % 2u == 1u;
  return at_window(window, GATE_LAYOUT, up ? UP_QUANTS : GATE_QUANTS, up ? UP_SCALES : GATE_SCALES);
}
#define ONE_MATRIX(function, name)                                 \
  Matrix function(uint window, uint slot, inout uint row) {        \
    return at_window(window, name##_LAYOUT, name##_QUANTS, name##_SCALES); \
  }
ONE_MATRIX(attn_out_matrix, ATTN_OUT)
ONE_MATRIX(down_matrix, DOWN)
ONE_MATRIX(head_matrix, HEAD)

// Weights come in one stream: an invocation's units of a block phase by phase, then those of the next block. STREAM units are asked for
// ahead of those that are multiplied; unit n lies in stream[n % STREAM]. Before an exchange only ACROSS units of a later phase are
// asked for: the core answers loads in order, so that mail would wait for more.
Unit stream[WISP_P_MOST_STREAM];

#define LOAD_OF(name, NAME, rows, matrices)                                                                         \
  void load_##name(uint k, uint place_in_stream, uint window) {                                                     \
    uint slot, row, unit;                                                                                           \
    if (place(k, rows, NAME##_UNITS, NAME##_SLICES, matrices, slot, row, unit)) {                                   \
      const Matrix m = name##_matrix(window, slot, row);                                                            \
      stream[place_in_stream] =                                                                                     \
        load_unit(m, unit_index(row, NAME##_BLOCKS, unit / NAME##_PARTS), unit % NAME##_PARTS, NAME##_PARTS);       \
    }                                                                                                               \
  }
LOAD_OF(qkv, QKV, QKV_ROWS, 1u)
LOAD_OF(attn_out, ATTN_OUT, WIDTH, 1u)
LOAD_OF(gate_up, GATE_UP, FFN_WIDTH, 2u)
LOAD_OF(down, DOWN, WIDTH, 1u)
LOAD_OF(head, HEAD, VOCABULARY, 1u)

// Asks for unit n of the stream; past STREAM_END it is the next block's, wanted where there is `more`. begin: of the phase at hand.
void ask(uint n, uint begin, uint window, uint next, bool more) {
  const bool wraps = n >= STREAM_END;
  const uint k = wraps ? n - STREAM_END : n, from = wraps ? next : window, to = n % STREAM;
  const uint phase = k < ATTN_OUT_BEGIN ? QKV_BEGIN : k < GATE_UP_BEGIN ? ATTN_OUT_BEGIN : k < DOWN_BEGIN ? GATE_UP_BEGIN : DOWN_BEGIN;
  if ((wraps && !more) || ((wraps || phase != begin) && k - phase >= ACROSS)) return;
  if (k < ATTN_OUT_BEGIN) load_qkv(k, to, from);
  else if (k < GATE_UP_BEGIN) load_attn_out(k - ATTN_OUT_BEGIN, to, from);
  else if (k < DOWN_BEGIN) load_gate_up(k - GATE_UP_BEGIN, to, from);
  else if (k < STREAM_UNITS) load_down(k - DOWN_BEGIN, to, from);
}

// Inputs times all rows of a phase, to partials.
#define RUN_OF(name, NAME, rows, layout_id, matrices)                                                  \
  void run_##name(uint window, uint next, bool more) {                                                 \
    [[unroll]] for (uint k = ACROSS; k < MIN(STREAM, NAME##_ROUNDS * NAME##_UNIT_ROUNDS); k++)          \
      load_##name(k, (NAME##_BEGIN + k) % STREAM, window);                                             \
    [[unroll]] for (uint r = 0u; r < NAME##_ROUNDS; r++) {                                             \
      uint slot = 0u, row, unit;                                                                       \
      float sum = 0.0;                                                                                 \
      [[unroll]] for (uint i = 0u; i < NAME##_UNIT_ROUNDS; i++) {                                      \
        const uint k = r * NAME##_UNIT_ROUNDS + i, n = NAME##_BEGIN + k;                               \
        if (place(k, rows, NAME##_UNITS, NAME##_SLICES, matrices, slot, row, unit))                    \
          sum += dot_unit(layout_id, stream[n % STREAM], unit, NAME##_PARTS);                          \
        ask(n + STREAM, NAME##_BEGIN, window, next, more);                                             \
      }                                                                                                \
      put_partial(sum, slot, NAME##_SLOTS, NAME##_SLICES);                                             \
    }                                                                                                  \
  }
RUN_OF(qkv, QKV, QKV_ROWS, Q_LAYOUT, 1u)
RUN_OF(attn_out, ATTN_OUT, WIDTH, ATTN_OUT_LAYOUT, 1u)
RUN_OF(gate_up, GATE_UP, FFN_WIDTH, GATE_LAYOUT, 2u)
RUN_OF(down, DOWN, WIDTH, DOWN_LAYOUT, 1u)

// The head has too many rounds to unroll: while one is multiplied, the next is under way.
void ask_head(uint round) {
  [[unroll]] for (uint i = 0u; i < HEAD_UNIT_ROUNDS; i++) load_head(round * HEAD_UNIT_ROUNDS + i, i, HEAD);
}

void run_head() {
  for (uint r = 0u; r < HEAD_ROUNDS; r++) {
    uint slot = 0u, row, unit;
    float sum = 0.0;
    [[unroll]] for (uint i = 0u; i < HEAD_UNIT_ROUNDS; i++) {
      const uint k = r * HEAD_UNIT_ROUNDS + i;
      if (place(k, VOCABULARY, HEAD_UNITS, HEAD_SLICES, 1u, slot, row, unit))
        sum += dot_unit(HEAD_LAYOUT, stream[i], unit, HEAD_PARTS);
      load_head(k + HEAD_UNIT_ROUNDS, i, HEAD);
    }
    put_partial(sum, slot, HEAD_SLOTS, HEAD_SLICES);
  }
}

// Row of this invocation's i-th result, and the slot of its first matrix.
uint result_row(uint i) { return 4u * ((id + i * LOCAL) / 4u * GROUPS + group) + id % 4u; }
