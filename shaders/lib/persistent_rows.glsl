// SPDX-License-Identifier: Apache-2.0
// persistent.comp: rows of matrices times the staged inputs.
#include "lib/unit.glsl"

// Where unit k of this invocation lies, k counted by rounds of rows, of units, matrices; false: nowhere. unit: counted along the row,
// parts of them a block. adjacent: the workgroup's rows are.
bool place(uint k, uint rows, uint units, uint slices, uint matrices, uint items, bool adjacent, out uint item, out uint row, out uint unit) {
  const uint rounds = CEIL(units, slices), teams = LOCAL / (4u * slices), team = id / (4u * slices);
  k /= matrices;
  item = k / rounds * teams + team;
  row = 4u * (adjacent ? group * items + item : item * GROUPS + group) + id % 4u;
  unit = k % rounds * slices + id % (4u * slices) / 4u;
  return team < teams && item < items && row < rows && unit < units;
}

// Likewise for columns of attn_out: those of a head times a share of the rows. row: WIDTH = none.
bool place_attn_out(uint k, out uint row, out uint unit) {
  const uint head = group % HEADS, rank = group / HEADS;
  const uint quad = k / ATTN_OUT_UNIT_ROUNDS * ATTN_OUT_TEAMS + id / ATTN_OUT_TEAM;
  row = rank < PER_HEAD && quad < ATTN_OUT_QUADS ? min(4u * (rank * ATTN_OUT_QUADS + quad) + id % 4u, WIDTH) : WIDTH;
  unit = k % ATTN_OUT_UNIT_ROUNDS * ATTN_OUT_SLICES + id % ATTN_OUT_TEAM / 4u;
  const bool found = row < WIDTH && unit < ATTN_OUT_UNITS;
  unit += head * ATTN_OUT_UNITS;
  return found;
}

// And of down: those of the workgroup's hidden units times all rows.
bool place_down(uint k, out uint row, out uint unit) {
  row = k / DOWN_UNIT_ROUNDS * LOCAL + id;
  unit = group * HIDDEN / DOWN_COLUMNS + k % DOWN_UNIT_ROUNDS;
  return row < WIDTH && unit < DOWN_BLOCKS * DOWN_PARTS;
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

// A row's sum over a team, or what of it is in a subgroup.
float sum_over_slices(float sum, uint invocations) {
  [[unroll]] for (uint mask = 4u; mask < invocations; mask <<= 1) sum += subgroupShuffleXor(sum, mask);
  return sum;
}

void put_partial(float sum, uint slot, uint slots, uint slices) {
  const uint team = 4u * slices;
  sum = sum_over_slices(sum, SUBGROUP);
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

// The matrix of a row, the k-th of those that share it; row becomes the row inside it.
Matrix qkv_matrix(uint window, uint k, inout uint row) {
  const bool is_q = row < Q_ROWS, is_k = row < Q_ROWS + KV_ROWS;
  row -= is_q ? 0u : is_k ? Q_ROWS : Q_ROWS + KV_ROWS;
  return at_window(window, Q_LAYOUT, is_q ? Q_QUANTS : is_k ? K_QUANTS : V_QUANTS, is_q ? Q_SCALES : is_k ? K_SCALES : V_SCALES);
}
Matrix gate_up_matrix(uint window, uint k, inout uint row) {
  const bool up = k % 2u == 1u;
  return at_window(window, GATE_LAYOUT, up ? UP_QUANTS : GATE_QUANTS, up ? UP_SCALES : GATE_SCALES);
}
Matrix head_matrix(uint window, uint k, inout uint row) { return at_window(window, HEAD_LAYOUT, HEAD_QUANTS, HEAD_SCALES); }

// Weights come in one stream: an invocation's units of a block phase by phase, then those of the next block. STREAM units are asked for
// ahead of those that are multiplied; unit n lies in stream[n % STREAM]. Before an exchange only ACROSS units of a later phase are
// asked for: the core answers loads in order, so that mail would wait for more.
Unit stream[WISP_P_MOST_STREAM];

#define LOAD_OF(name, NAME, rows, matrices, adjacent)                                                               \
  void load_##name(uint k, uint place_in_stream, uint window) {                                                     \
    uint item, row, unit;                                                                                           \
    if (place(k, rows, NAME##_UNITS, NAME##_SLICES, matrices, NAME##_ITEMS, adjacent, item, row, unit)) {           \
      const Matrix m = name##_matrix(window, k, row);                                                               \
      stream[place_in_stream] =                                                                                     \
        load_unit(m, unit_index(row, NAME##_BLOCKS, unit / NAME##_PARTS), unit % NAME##_PARTS, NAME##_PARTS);       \
    }                                                                                                               \
  }
LOAD_OF(qkv, QKV, QKV_ROWS, 1u, false)
LOAD_OF(gate_up, GATE_UP, FFN_WIDTH, 2u, true)
LOAD_OF(head, HEAD, VOCABULARY, 1u, false)

#define LOAD_COLUMNS_OF(name, NAME)                                                                                 \
  void load_##name(uint k, uint place_in_stream, uint window) {                                                     \
    uint row, unit;                                                                                                 \
    if (place_##name(k, row, unit))                                                                                 \
      stream[place_in_stream] =                                                                                     \
        load_unit(at_window(window, NAME##_LAYOUT, NAME##_QUANTS, NAME##_SCALES),                                   \
                  unit_index(row, NAME##_BLOCKS, unit / NAME##_PARTS), unit % NAME##_PARTS, NAME##_PARTS);          \
  }
LOAD_COLUMNS_OF(attn_out, ATTN_OUT)
LOAD_COLUMNS_OF(down, DOWN)

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

// At the begin of a phase that uses `count` units.
#define ASK_MORE(name, NAME)                                                                             \
    [[unroll]] for (uint k = ACROSS; k < MIN(STREAM, NAME##_COUNT); k++)                                 \
      load_##name(k, (NAME##_BEGIN + k) % STREAM, window);

// Inputs times all rows of a phase, to partials.
#define RUN_OF(name, NAME, rows, layout_id, matrices, adjacent)                                          \
  void run_##name(uint window, uint next, bool more) {                                                   \
    ASK_MORE(name, NAME)                                                                                 \
    [[unroll]] for (uint r = 0u; r < NAME##_ROUNDS; r++) {                                               \
      uint item = 0u, row, unit;                                                                         \
      float sums[2] = float[2](0.0, 0.0);                                                                \
      [[unroll]] for (uint i = 0u; i < NAME##_UNIT_ROUNDS * matrices; i++) {                             \
        const uint k = r * NAME##_UNIT_ROUNDS * matrices + i, n = NAME##_BEGIN + k;                      \
        if (place(k, rows, NAME##_UNITS, NAME##_SLICES, matrices, NAME##_ITEMS, adjacent, item, row, unit)) \
          sums[i % matrices] += dot_unit(layout_id, stream[n % STREAM], unit, NAME##_PARTS);             \
        ask(n + STREAM, NAME##_BEGIN, window, next, more);                                               \
      }                                                                                                  \
      [[unroll]] for (uint i = 0u; i < matrices; i++)                                                    \
        put_partial(sums[i], matrices * item + i, matrices * NAME##_ITEMS, NAME##_SLICES);               \
    }                                                                                                    \
  }
RUN_OF(qkv, QKV, QKV_ROWS, Q_LAYOUT, 1u, false)
RUN_OF(gate_up, GATE_UP, FFN_WIDTH, GATE_LAYOUT, 2u, true)

// Inputs of this workgroup's own times their columns, to the sums.
void run_attn_out(uint block, uint window, uint next, bool more) {
  ASK_MORE(attn_out, ATTN_OUT)
  const uint begin = group % HEADS * ATTN_OUT_UNITS / ATTN_OUT_PARTS;  // the block where its columns begin
  [[unroll]] for (uint r = 0u; r < ATTN_OUT_ROUNDS; r++) {
    uint row, unit;
    float sum = 0.0;
    [[unroll]] for (uint i = 0u; i < ATTN_OUT_UNIT_ROUNDS; i++) {
      const uint k = r * ATTN_OUT_UNIT_ROUNDS + i, n = ATTN_OUT_BEGIN + k;
      if (place_attn_out(k, row, unit))
        sum += dot_unit(ATTN_OUT_LAYOUT, stream[n % STREAM], unit + (OWN - begin) * ATTN_OUT_PARTS, ATTN_OUT_PARTS);
      ask(n + STREAM, ATTN_OUT_BEGIN, window, next, more);
    }
    sum = sum_over_slices(sum, ATTN_OUT_TEAM);
    if (id % ATTN_OUT_TEAM < 4u && row < WIDTH) add_to_sum(ATTN_OUT_SUMS + block % 2u * SUMS, row, sum);
  }
}

void run_down(uint window, uint next, bool more) {
  ASK_MORE(down, DOWN)
  [[unroll]] for (uint r = 0u; r < DOWN_ROUNDS; r++) {
    uint row, unit;
    float sum = 0.0;
    [[unroll]] for (uint i = 0u; i < DOWN_UNIT_ROUNDS; i++) {
      const uint k = r * DOWN_UNIT_ROUNDS + i, n = DOWN_BEGIN + k;
      if (place_down(k, row, unit))
        sum += dot_unit(DOWN_LAYOUT, stream[n % STREAM], unit + (OWN - group * HIDDEN / 32u) * DOWN_PARTS, DOWN_PARTS);
      ask(n + STREAM, DOWN_BEGIN, window, next, more);
    }
    if (row < WIDTH && group < FEEDERS) add_to_sum(DOWN_SUMS, row, sum);
  }
}

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
      if (place(k, VOCABULARY, HEAD_UNITS, HEAD_SLICES, 1u, HEAD_ITEMS, false, slot, row, unit))
        sum += dot_unit(HEAD_LAYOUT, stream[i], unit, HEAD_PARTS);
      load_head(k + HEAD_UNIT_ROUNDS, i, HEAD);
    }
    put_partial(sum, slot, HEAD_ITEMS, HEAD_SLICES);
  }
}

// Row of this invocation's i-th result, where a workgroup's rows are not adjacent.
uint result_row(uint i) { return 4u * ((id + i * LOCAL) / 4u * GROUPS + group) + id % 4u; }
