#version 450
// SPDX-License-Identifier: Apache-2.0
// A whole token in one dispatch: GROUPS workgroups, all resident, run every block side by side and send each other what they make as
// mail: a float with a tag in one 64-bit word, so that the word itself tells whether it has come and nothing else needs ordering.
// Each workgroup holds the whole residual stream (LOCAL invocations, SHARE elements each) and adds what all of them computed:
//   qkv       x += down's rows;   rows of q, k, v       -> mail, KV slot
//   attention (head, split) of the positions            -> mail
//             the split's values, merged per head       -> mail, only where there are several splits
//   attn_out                      rows                  -> mail
//   gate_up   x += attn_out's;    rows of the activation -> mail
//   down                          rows                  -> mail
// Two mailboxes take turns: a workgroup writes one again only when all have answered its last use (each has rows of gate_up).
// A team of 4 * SLICES invocations takes 4 neighbouring rows, an invocation one of them and every SLICES-th unit: a block of 32
// weights, or one of the PARTS of it.
// Those weights are asked for a block ahead, and kept where the same block is executed again.
// A mail that does not come within SPINS looks sets steps[WISP_STEP_FAILED]; every workgroup then ends.
#pragma use_vulkan_memory_model
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_EXT_shader_explicit_arithmetic_types_int64 : require
#extension GL_EXT_shader_atomic_int64 : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#include "lib/bindings.glsl"
#include "lib/weights.glsl"
#include "lib/half.glsl"
#include "lib/activation.glsl"
#include "shared/persistent.h"

layout(constant_id = WISP_P_SUBGROUP) const uint SUBGROUP = 32;
layout(constant_id = WISP_P_GROUPS) const uint GROUPS = 1;
layout(constant_id = WISP_P_BLOCKS) const uint BLOCKS = 1;
layout(constant_id = WISP_P_REPEAT) const uint REPEAT = 1;
layout(constant_id = WISP_P_WIDTH) const uint WIDTH = 32;
layout(constant_id = WISP_P_FFN_WIDTH) const uint FFN_WIDTH = 32;
layout(constant_id = WISP_P_HEADS) const uint HEADS = 1;
layout(constant_id = WISP_P_KV_HEADS) const uint KV_HEADS = 1;
layout(constant_id = WISP_P_HEAD_SIZE) const uint HEAD_SIZE = 8;
layout(constant_id = WISP_P_VOCABULARY) const uint VOCABULARY = 32;
layout(constant_id = WISP_P_EPSILON) const float EPSILON = 0.0;
layout(constant_id = WISP_P_ATTENTION_SCALE) const float ATTENTION_SCALE = 1.0;
layout(constant_id = WISP_P_EMBEDDING_SCALE) const float EMBEDDING_SCALE = 1.0;
layout(constant_id = WISP_P_GELU) const uint GELU = 0;
layout(constant_id = WISP_P_KV_F32) const uint KV_F32 = 0;
layout(constant_id = WISP_P_ROPE) const uint ROPE = 0;
layout(constant_id = WISP_P_ROPE_STRIDE) const uint ROPE_STRIDE = 8;
layout(constant_id = WISP_P_LOGITS) const uint LOGITS = 0;
layout(constant_id = WISP_P_FIRST) const uint FIRST = 0;
layout(constant_id = WISP_P_STRIDE) const uint STRIDE = 0;
layout(constant_id = WISP_P_EMBEDDING) const uint EMBEDDING = 0;
layout(constant_id = WISP_P_HEAD) const uint HEAD = 0;
layout(constant_id = WISP_P_ATTN_NORM) const uint ATTN_NORM = 0;
layout(constant_id = WISP_P_FFN_NORM) const uint FFN_NORM = 0;
layout(constant_id = WISP_P_FINAL_NORM) const uint FINAL_NORM = 0;
layout(constant_id = WISP_P_BIAS) const uint BIAS = 0;
#define MATRIX(name, i)                                                           \
  layout(constant_id = WISP_P_MATRICES + 3 * i) const uint name##_LAYOUT = 0;     \
  layout(constant_id = WISP_P_MATRICES + 3 * i + 1) const uint name##_QUANTS = 0; \
  layout(constant_id = WISP_P_MATRICES + 3 * i + 2) const uint name##_SCALES = 0;
MATRIX(Q, 0)
MATRIX(K, 1)
MATRIX(V, 2)
MATRIX(ATTN_OUT, 3)
MATRIX(GATE, 4)
MATRIX(UP, 5)
MATRIX(DOWN, 6)
MATRIX(EMBEDDING, 7)
MATRIX(HEAD, 8)
layout(constant_id = WISP_P_SLICES) const uint QKV_SLICES = 8;
layout(constant_id = WISP_P_SLICES + 1) const uint ATTN_OUT_SLICES = 8;
layout(constant_id = WISP_P_SLICES + 2) const uint GATE_UP_SLICES = 8;
layout(constant_id = WISP_P_SLICES + 3) const uint DOWN_SLICES = 8;
layout(constant_id = WISP_P_SLICES + 4) const uint HEAD_SLICES = 8;
layout(constant_id = WISP_P_PARTS) const uint QKV_PARTS = 1;
layout(constant_id = WISP_P_PARTS + 1) const uint ATTN_OUT_PARTS = 1;
layout(constant_id = WISP_P_PARTS + 2) const uint GATE_UP_PARTS = 1;
layout(constant_id = WISP_P_PARTS + 3) const uint DOWN_PARTS = 1;
layout(constant_id = WISP_P_PARTS + 4) const uint HEAD_PARTS = 1;
layout(constant_id = WISP_P_HOLD) const uint QKV_HOLD = 0;
layout(constant_id = WISP_P_HOLD + 1) const uint ATTN_OUT_HOLD = 0;
layout(constant_id = WISP_P_HOLD + 2) const uint GATE_UP_HOLD = 0;
layout(constant_id = WISP_P_HOLD + 3) const uint DOWN_HOLD = 0;
const uint HEAD_HOLD = 0;
layout(constant_id = WISP_P_AHEAD) const uint AHEAD = 2;
layout(constant_id = WISP_P_SPLIT) const uint SPLIT = 64;
layout(constant_id = WISP_P_SPLITS) const uint SPLITS = 1;
layout(constant_id = WISP_P_SPINS) const uint SPINS = 1000;

layout(set = 0, binding = WISP_BIND_KV_VEC4) readonly buffer KvVec4 { uvec4 kv4[]; };
layout(set = 0, binding = WISP_BIND_KV_WORD) writeonly buffer KvWord { uint kv[]; };
layout(set = 0, binding = WISP_BIND_DATA) buffer Data { float data[]; };
layout(set = 0, binding = WISP_BIND_MAIL) buffer Mail { uint64_t mail[]; };

const uint Q_ROWS = HEADS * HEAD_SIZE, KV_ROWS = KV_HEADS * HEAD_SIZE, QKV_ROWS = Q_ROWS + 2u * KV_ROWS;
const uint SUBGROUPS = LOCAL / SUBGROUP;

// A mailbox; then the candidates for the next token, (logit, id)[GROUPS].
const uint QKV_MAIL = 0u;
const uint ATTENTION_MAIL = QKV_MAIL + QKV_ROWS;
const uint SPLIT_MAIL = ATTENTION_MAIL + Q_ROWS;              // [split][head][HEAD_SIZE], not yet divided by the total
const uint SOFTMAX_MAIL = SPLIT_MAIL + SPLITS * Q_ROWS;       // (maximum, total)[split][head]
const uint ATTN_OUT_MAIL = SOFTMAX_MAIL + SPLITS * HEADS * 2u;
const uint HIDDEN_MAIL = ATTN_OUT_MAIL + WIDTH;
const uint DOWN_MAIL = HIDDEN_MAIL + FFN_WIDTH;
const uint MAILBOX = DOWN_MAIL + WIDTH;
const uint CANDIDATE_MAIL = 2u * MAILBOX;

#define CEIL(a, b) (((a) + (b) - 1u) / (b))
#define PHASE(name, rows, cols, slices, matrices)                  \
  const uint name##_BLOCKS = CEIL(cols, 32u);                      \
  const uint name##_UNITS = name##_BLOCKS * name##_PARTS;          \
  const uint name##_TEAMS = LOCAL / (4u * slices);                 \
  const uint name##_ITEMS = CEIL(CEIL(rows, 4u), GROUPS);          \
  const uint name##_SLOTS = matrices * name##_ITEMS;               \
  const uint name##_UNIT_ROUNDS = CEIL(name##_UNITS, slices);      \
  const uint name##_ROUNDS = CEIL(name##_SLOTS, name##_TEAMS);     \
  const uint name##_PARTIALS = name##_SLOTS * (4u * slices / SUBGROUP) * 4u;
PHASE(QKV, QKV_ROWS, WIDTH, QKV_SLICES, 1u)
PHASE(ATTN_OUT, WIDTH, Q_ROWS, ATTN_OUT_SLICES, 1u)
PHASE(GATE_UP, FFN_WIDTH, WIDTH, GATE_UP_SLICES, 2u)
PHASE(DOWN, WIDTH, FFN_WIDTH, DOWN_SLICES, 1u)
PHASE(HEAD, VOCABULARY, WIDTH, HEAD_SLICES, 1u)

#define INPUT_STRIDE 36u  // of blocks of 32 inputs: neighbouring slices read different banks
const uint WIDEST = WIDTH > Q_ROWS ? (WIDTH > FFN_WIDTH ? WIDTH : FFN_WIDTH) : (Q_ROWS > FFN_WIDTH ? Q_ROWS : FFN_WIDTH);
const uint MOST_1 = QKV_PARTIALS > GATE_UP_PARTIALS ? QKV_PARTIALS : GATE_UP_PARTIALS;
const uint MOST_2 = ATTN_OUT_PARTIALS > DOWN_PARTIALS ? ATTN_OUT_PARTIALS : DOWN_PARTIALS;
const uint MOST_3 = MOST_1 > MOST_2 ? MOST_1 : MOST_2;
const uint PARTIALS = MOST_3 > HEAD_PARTIALS ? MOST_3 : HEAD_PARTIALS;

shared float inputs[CEIL(WIDEST, 32u) * INPUT_STRIDE];
shared float partials[PARTIALS];           // [slot][subgroup of the team][row]
shared float squares[SUBGROUPS];
shared vec2 softmaxes[SUBGROUPS];          // (maximum, total)
shared vec4 weighted[SUBGROUPS * HEAD_SIZE / 4u];  // [subgroup][HEAD_SIZE / 4]
shared uint failed;

uint id, group;
uint tag;                // of this execution's mail
uint mailbox;            // its first word
float x[WISP_P_SHARE];   // residual stream: elements id + i * LOCAL

// ---- Mail ----

void send(uint slot, float value) {
  const uint64_t word = (uint64_t(tag) << 32) | uint64_t(floatBitsToUint(value));
  atomicStore(mail[slot], word, gl_ScopeDevice, 0, 0);
}

bool look(uint slot, uint expected, out float value) {
  const uint64_t word = atomicLoad(mail[slot], gl_ScopeDevice, 0, 0);
  value = uintBitsToFloat(uint(word));
  return uint(word >> 32) == expected;
}

// Elements id + i * LOCAL of the count mails from slot first on.
void receive(uint first, uint count, uint expected, out float values[WISP_P_SHARE]) {
  bool waiting = true;
  for (uint spin = 0u; waiting && spin < SPINS; spin++) {
    waiting = false;
    [[unroll]] for (uint i = 0u; i < WISP_P_SHARE; i++) {
      if (i * LOCAL < count && id + i * LOCAL < count) waiting = !look(first + id + i * LOCAL, expected, values[i]) || waiting;
    }
  }
  if (waiting) failed = 1u;
}

float receive_one(uint slot) {
  float value;
  bool waiting = true;
  for (uint spin = 0u; waiting && spin < SPINS; spin++) waiting = !look(slot, tag, value);
  if (waiting) failed = 1u;
  return value;
}

// ---- Rows of matrices ----

struct Unit {  // 1 / parts of a block of 32 weights of a row, at most 16 words, as they were loaded
  uvec4 first, second, third, fourth;
  uint scale;
};

// Where unit k of this invocation lies; false: nowhere. unit: counted along the row, parts of them a block.
bool place(uint k, uint rows, uint units, uint slices, uint matrices, out uint slot, out uint row, out uint unit) {
  const uint rounds = CEIL(units, slices), teams = LOCAL / (4u * slices), team = id / (4u * slices);
  slot = k / rounds * teams + team;
  row = 4u * (slot / matrices * GROUPS + group) + id % 4u;
  unit = k % rounds * slices + id % (4u * slices) / 4u;
  return team < teams && row < rows && unit < units;
}

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

vec4 input4(uint element) {
  const uint at = element / 32u * INPUT_STRIDE + element % 32u;
  return vec4(inputs[at], inputs[at + 1u], inputs[at + 2u], inputs[at + 3u]);
}
void set_input(uint element, float value) { inputs[element / 32u * INPUT_STRIDE + element % 32u] = value; }

bool has_nibbles(uint layout_id) { return layout_id == WISP_LAYOUT_Q4S || layout_id == WISP_LAYOUT_Q4A; }
bool has_minimum(uint layout_id) { return layout_id == WISP_LAYOUT_Q4A || layout_id == WISP_LAYOUT_Q8A; }
float add_up(vec4 v) { return (v.x + v.y) + (v.z + v.w); }

// Weights of `words` words times the inputs from `at` on.
vec4 dot_words(uint layout_id, uvec4 v, uint words, uint at) {
  vec4 sum = vec4(0.0);
  if (has_nibbles(layout_id)) {
    // The 8 that a symmetric layout subtracts goes with the mantissa's.
    const float offset = layout_id == WISP_LAYOUT_Q4S ? 8388616.0 : 8388608.0;
    [[unroll]] for (uint i = 0u; i < 4u; i++) {
      if (i < words) {
        const uint low = v[i], high = v[i] >> 16;
        sum += (mantissa(uvec4(low, low >> 4, low >> 8, low >> 12) & 15u) - offset) * input4(at + 8u * i);
        sum += (mantissa(uvec4(high, high >> 4, high >> 8, high >> 12) & 15u) - offset) * input4(at + 8u * i + 4u);
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
      first_half = word_scale(layout_id, u.scale, row, false).x * add_up(sum);
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
  return first_half + scale.x * add_up(sum) + minimum;
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

// load: asks for the first HOLD units of a window's weights. run: inputs times all of them, to partials.
#define ROWS_OF(name, NAME, rows, layout_id, matrices, UNROLL)                                                  \
  Unit name##_held[WISP_P_MOST_HELD];                                                                           \
  Unit load_##name##_unit(uint window, uint slot, uint row, uint unit) {                                        \
    const Matrix m = name##_matrix(window, slot, row);                                                          \
    return load_unit(m, unit_index(row, NAME##_BLOCKS, unit / NAME##_PARTS), unit % NAME##_PARTS, NAME##_PARTS); \
  }                                                                                                             \
  void load_##name(uint window) {                                                                               \
    [[unroll]] for (uint k = 0u; k < WISP_P_MOST_HELD; k++) {                                                   \
      uint slot, row, unit;                                                                                     \
      if (k < NAME##_HOLD && place(k, rows, NAME##_UNITS, NAME##_SLICES, matrices, slot, row, unit))            \
        name##_held[k] = load_##name##_unit(window, slot, row, unit);                                           \
    }                                                                                                           \
  }                                                                                                             \
  void run_##name(uint window) {                                                                                \
    UNROLL for (uint r = 0u; r < NAME##_ROUNDS; r++) {                                                          \
      uint slot = 0u, row, unit;                                                                                \
      float sum = 0.0;                                                                                          \
      [[unroll]] for (uint i = 0u; i < NAME##_UNIT_ROUNDS; i++) {                                               \
        const uint k = r * NAME##_UNIT_ROUNDS + i;                                                              \
        if (place(k, rows, NAME##_UNITS, NAME##_SLICES, matrices, slot, row, unit)) {                           \
          if (k < NAME##_HOLD)                                                                                  \
            sum += dot_unit(layout_id, name##_held[k], unit, NAME##_PARTS);                                     \
          else                                                                                                  \
            sum += dot_unit(layout_id, load_##name##_unit(window, slot, row, unit), unit, NAME##_PARTS);        \
        }                                                                                                       \
      }                                                                                                         \
      put_partial(sum, slot, NAME##_SLOTS, NAME##_SLICES);                                                      \
    }                                                                                                           \
  }
ROWS_OF(qkv, QKV, QKV_ROWS, Q_LAYOUT, 1u, [[unroll]])
ROWS_OF(attn_out, ATTN_OUT, WIDTH, ATTN_OUT_LAYOUT, 1u, [[unroll]])
ROWS_OF(gate_up, GATE_UP, FFN_WIDTH, GATE_LAYOUT, 2u, [[unroll]])
ROWS_OF(down, DOWN, WIDTH, DOWN_LAYOUT, 1u, [[unroll]])
ROWS_OF(head, HEAD, VOCABULARY, HEAD_LAYOUT, 1u, )

// Row of this invocation's i-th result, and the slot of its first matrix.
uint result_row(uint i) { return 4u * ((id + i * LOCAL) / 4u * GROUPS + group) + id % 4u; }

// ---- Residual stream ----

void take_norm(uint at, out float weight[WISP_P_SHARE]) {
  [[unroll]] for (uint i = 0u; i < WISP_P_SHARE; i++) {
    if (i * LOCAL < WIDTH && id + i * LOCAL < WIDTH) weight[i] = uintBitsToFloat(weights[4u * at + id + i * LOCAL]);
  }
}

// inputs = x * weight, squares = sum of x^2 over each subgroup; the factor 1/rms goes to the results.
void stage_normed(float weight[WISP_P_SHARE]) {
  float sum = 0.0;
  [[unroll]] for (uint i = 0u; i < WISP_P_SHARE; i++) {
    if (i * LOCAL < WIDTH && id + i * LOCAL < WIDTH) {
      set_input(id + i * LOCAL, x[i] * weight[i]);
      sum += x[i] * x[i];
    }
  }
  [[unroll]] for (uint mask = 1u; mask < SUBGROUP; mask <<= 1) sum += subgroupShuffleXor(sum, mask);
  if (id % SUBGROUP == 0u) squares[id / SUBGROUP] = sum;
}

float norm_factor() {
  float sum = 0.0;
  [[unroll]] for (uint i = 0u; i < SUBGROUPS; i++) sum += squares[i];
  return inversesqrt(sum / float(WIDTH) + EPSILON);
}

void add_received(uint first, uint expected) {
  float values[WISP_P_SHARE];
  receive(first, WIDTH, expected, values);
  [[unroll]] for (uint i = 0u; i < WISP_P_SHARE; i++) {
    if (i * LOCAL < WIDTH && id + i * LOCAL < WIDTH) x[i] += values[i];
  }
}

void embed(uint token) {
  const Matrix m = at_window(EMBEDDING, EMBEDDING_LAYOUT, EMBEDDING_QUANTS, EMBEDDING_SCALES);
  const uint parts = vector_parts(m.layout_id);
  [[unroll]] for (uint i = 0u; i < WISP_P_SHARE; i++) {
    const uint element = id + i * LOCAL;
    if (i * LOCAL < WIDTH && element < WIDTH) {
      const uint index = unit_index(token, CEIL(WIDTH, 32u), element / 32u), part = element % 32u / 4u;
      const vec2 scale = block_scale(m, index, part >= 4u);
      const vec4 quad = vector_part(m.layout_id, load_vector(m, index, part / parts), part % parts);
      const vec2 pair = (element & 2u) == 0u ? quad.xy : quad.zw;
      x[i] = EMBEDDING_SCALE * (((element & 1u) == 0u ? pair.x : pair.y) * scale.x + scale.y);
    }
  }
}

// ---- Ops ----

void finish_qkv(uint block, uint position, uint window, vec2 angle) {
  const float factor = norm_factor();
  const uint row = result_row(0u);
  const bool mine = id < 4u * QKV_ITEMS && row < QKV_ROWS;
  float value = 0.0;
  if (mine) value = factor * take_sum(id / 4u, QKV_SLICES, id);
  if (BIAS != 0u && mine) value += uintBitsToFloat(weights[4u * (window + BIAS) + row]);
  const float other = subgroupShuffleXor(value, 1u);  // the other of a RoPE pair
  const bool odd = id % 2u == 1u;
  if (row < Q_ROWS + KV_ROWS) value = value * angle.x + (odd ? other : -other) * angle.y;
  const float partner = subgroupShuffleXor(value, 1u);
  if (mine) {
    send(mailbox + QKV_MAIL + row, value);
    if (row >= Q_ROWS) {
      const uint element = position * 2u * KV_ROWS + row - Q_ROWS;
      if (KV_F32 == 1u) kv[4u * block * push.kv_stride + element] = floatBitsToUint(value);
      else if (!odd) kv[4u * block * push.kv_stride + element / 2u] = pack_half(vec2(value, partner));
    }
  }
}

void finish_gate_up() {
  const float factor = norm_factor();
  [[unroll]] for (uint i = 0u; i < CEIL(4u * GATE_UP_ITEMS, LOCAL); i++) {
    const uint row = result_row(i), slot = 2u * ((id + i * LOCAL) / 4u);
    if (id + i * LOCAL < 4u * GATE_UP_ITEMS && row < FFN_WIDTH) {
      const float gate = factor * take_sum(slot, GATE_UP_SLICES, id), up = factor * take_sum(slot + 1u, GATE_UP_SLICES, id);
      send(mailbox + HIDDEN_MAIL + row, activation(gate, GELU) * up);
    }
  }
}

#define FINISH_RESIDUAL(name, NAME)                                               \
  void finish_##name() {                                                          \
    [[unroll]] for (uint i = 0u; i < CEIL(4u * NAME##_ITEMS, LOCAL); i++) {       \
      const uint row = result_row(i);                                             \
      if (id + i * LOCAL < 4u * NAME##_ITEMS && row < WIDTH)                      \
        send(mailbox + NAME##_MAIL + row, take_sum((id + i * LOCAL) / 4u, NAME##_SLICES, id)); \
    }                                                                             \
  }
FINISH_RESIDUAL(attn_out, ATTN_OUT)
FINISH_RESIDUAL(down, DOWN)

// ---- Attention: as attention_direct.comp, for one head and one split of the positions ----

const uint PART_COUNT = HEAD_SIZE / 8u;      // invocations that share a position
const uint ATTENDERS = LOCAL < 256u ? LOCAL : 256u;  // few subgroups to merge in the end
const uint POSITION_TEAMS = ATTENDERS / PART_COUNT;

struct Row { vec4 low, high; };
struct Softmax {
  float maximum, total;
  vec4 low, high;
};

struct RawRow { uvec4 first, second; };

RawRow load_row(uint slot, uint element) {
  const uint at = slot * push.kv_stride;
  if (KV_F32 == 1u) return RawRow(kv4[at + element / 4u], kv4[at + element / 4u + 1u]);
  return RawRow(kv4[at + element / 8u], uvec4(0u));
}

Row unpack_row(RawRow raw) {
  if (KV_F32 == 1u) return Row(uintBitsToFloat(raw.first), uintBitsToFloat(raw.second));
  return Row(f16_pairs(raw.first.xy), f16_pairs(raw.first.zw));
}

// As the KV cache will hold it.
float stored(float value) { return KV_F32 == 1u ? value : unpackHalf2x16(half_bits(value)).x; }

Row staged_row(uint first) {
  return Row(vec4(inputs[first], inputs[first + 1u], inputs[first + 2u], inputs[first + 3u]),
             vec4(inputs[first + 4u], inputs[first + 5u], inputs[first + 6u], inputs[first + 7u]));
}

uint split_count(uint positions) { return clamp(CEIL(positions, SPLIT), 1u, SPLITS); }

RawRow raw_k[AHEAD], raw_v[AHEAD];  // of the next AHEAD positions of this invocation's team

// Where a part of the attention begins and ends.
uvec2 part_range(uint part, uint positions, uint splits) {
  const uint each = CEIL(positions, splits), begin = part / HEADS * each;
  return uvec2(begin, min(begin + each, positions));
}

void load_rows(uint block, uint head, uint first, uint positions) {
  const uint element = head / (HEADS / KV_HEADS) * HEAD_SIZE + id % PART_COUNT * 8u;
  [[unroll]] for (uint i = 0u; i < AHEAD; i++) {
    const uint row = min(first + i * POSITION_TEAMS + id / PART_COUNT, positions - 1u) * 2u * KV_ROWS + element;
    raw_k[i] = load_row(block, row);
    raw_v[i] = load_row(block, row + KV_ROWS);
  }
}

// Asks for the first rows of this workgroup's part: the KV slot of earlier positions waits for nothing. Only where registers last.
void load_attention(uint block, uint positions, uint splits) {
  if (id < ATTENDERS && group < HEADS * splits) load_rows(block, group % HEADS, part_range(group, positions, splits).x, positions);
}

void add_positions(inout Softmax s, Row query, uint first, uint end, uint positions) {
  const uint part = id % PART_COUNT, team = id / PART_COUNT;
  Row v[AHEAD];
  float scores[AHEAD];
  float maximum = s.maximum;
  [[unroll]] for (uint i = 0u; i < AHEAD; i++) {
    const uint position = first + i * POSITION_TEAMS + team;
    const bool current = position + 1u == positions;
    Row k = unpack_row(raw_k[i]);
    if (current) k = staged_row(HEAD_SIZE + 8u * part);
    v[i] = unpack_row(raw_v[i]);
    if (current) v[i] = staged_row(2u * HEAD_SIZE + 8u * part);
    float score = dot(query.low, k.low) + dot(query.high, k.high);
    [[unroll]] for (uint mask = 1u; mask < PART_COUNT; mask <<= 1) score += subgroupShuffleXor(score, mask);
    scores[i] = position < end ? score : MINUS_INFINITY;
    maximum = max(maximum, scores[i]);
  }
  if (maximum == MINUS_INFINITY) return;
  const float correction = exp(s.maximum - maximum);
  s.maximum = maximum;
  s.total *= correction;
  s.low *= correction;
  s.high *= correction;
  [[unroll]] for (uint i = 0u; i < AHEAD; i++) {
    if (scores[i] > MINUS_INFINITY) {
      const float weight = exp(scores[i] - maximum);
      s.total += weight;
      s.low += weight * v[i].low;
      s.high += weight * v[i].high;
    }
  }
}

// The teams of a subgroup together.
void merge_teams(inout Softmax s) {
  float maximum = s.maximum;
  [[unroll]] for (uint mask = PART_COUNT; mask < SUBGROUP; mask <<= 1) maximum = max(maximum, subgroupShuffleXor(maximum, mask));
  const float correction = s.maximum == MINUS_INFINITY ? 0.0 : exp(s.maximum - maximum);
  s = Softmax(maximum, correction * s.total, correction * s.low, correction * s.high);
  [[unroll]] for (uint mask = PART_COUNT; mask < SUBGROUP; mask <<= 1) {
    s.total += subgroupShuffleXor(s.total, mask);
    s.low += subgroupShuffleXor(s.low, mask);
    s.high += subgroupShuffleXor(s.high, mask);
  }
}

void attend(uint block, uint positions, uint splits, uint part) {
  const uint head = part % HEADS, split = part / HEADS, key = head / (HEADS / KV_HEADS) * HEAD_SIZE;
  const uvec2 range = part_range(part, positions, splits);
  // The head's query, and this token's key and value: inputs[3][HEAD_SIZE].
  for (uint i = id; i < 3u * HEAD_SIZE; i += LOCAL) {
    const uint which = i / HEAD_SIZE, row = which == 0u ? head * HEAD_SIZE : Q_ROWS + (which - 1u) * KV_ROWS + key;
    const float value = receive_one(mailbox + QKV_MAIL + row + i % HEAD_SIZE);
    inputs[i] = which == 0u ? ATTENTION_SCALE * value : stored(value);
  }
  barrier();
  if (id < ATTENDERS) {
    const Row query = staged_row(8u * (id % PART_COUNT));
    Softmax s = Softmax(MINUS_INFINITY, 0.0, vec4(0.0), vec4(0.0));
    for (uint first = range.x; first < range.y; first += AHEAD * POSITION_TEAMS) {
      add_positions(s, query, first, range.y, positions);
      if (first + AHEAD * POSITION_TEAMS < range.y) load_rows(block, head, first + AHEAD * POSITION_TEAMS, positions);
    }
    merge_teams(s);
    if (id % SUBGROUP < PART_COUNT) {
      const uint at = id / SUBGROUP * (HEAD_SIZE / 4u) + 2u * (id % SUBGROUP);
      softmaxes[id / SUBGROUP] = vec2(s.maximum, s.total);
      weighted[at] = s.low;
      weighted[at + 1u] = s.high;
    }
  }
  barrier();
  for (uint element = id; element < HEAD_SIZE; element += LOCAL) {
    float maximum = MINUS_INFINITY, total = 0.0, sum = 0.0;
    [[unroll]] for (uint i = 0u; i < ATTENDERS / SUBGROUP; i++) maximum = max(maximum, softmaxes[i].x);
    [[unroll]] for (uint i = 0u; i < ATTENDERS / SUBGROUP; i++) {
      const float weight = exp(softmaxes[i].x - maximum);
      total += weight * softmaxes[i].y;
      sum += weight * weighted[i * (HEAD_SIZE / 4u) + element / 4u][element % 4u];
    }
    const uint slot = head * HEAD_SIZE + element;
    if (splits == 1u) {
      send(mailbox + ATTENTION_MAIL + slot, sum / total);
    } else {
      send(mailbox + SPLIT_MAIL + split * Q_ROWS + slot, sum);
      if (element == 0u) {
        send(mailbox + SOFTMAX_MAIL + 2u * (split * HEADS + head), maximum);
        send(mailbox + SOFTMAX_MAIL + 2u * (split * HEADS + head) + 1u, total);
      }
    }
  }
}

// Element of the attention's result out of its splits, 4 at a time.
float merge_splits(uint element, uint splits) {
  const uint head = element / HEAD_SIZE;
  float maximum = MINUS_INFINITY, total = 0.0, sum = 0.0;
  for (uint first = 0u; first < splits; first += 4u) {
    float maxima[4], totals[4], sums[4];
    bool waiting = true;
    for (uint spin = 0u; waiting && spin < SPINS; spin++) {
      waiting = false;
      [[unroll]] for (uint i = 0u; i < 4u; i++) {
        const uint split = min(first + i, splits - 1u), softmax = mailbox + SOFTMAX_MAIL + 2u * (split * HEADS + head);
        waiting = !look(softmax, tag, maxima[i]) || waiting;
        waiting = !look(softmax + 1u, tag, totals[i]) || waiting;
        waiting = !look(mailbox + SPLIT_MAIL + split * Q_ROWS + element, tag, sums[i]) || waiting;
      }
    }
    if (waiting) failed = 1u;
    [[unroll]] for (uint i = 0u; i < 4u; i++) {
      if (first + i < splits) {
        const float new_maximum = max(maximum, maxima[i]);
        const float before = exp(maximum - new_maximum), now = exp(maxima[i] - new_maximum);
        total = before * total + now * totals[i];
        sum = before * sum + now * sums[i];
        maximum = new_maximum;
      }
    }
  }
  return sum / total;
}

void attention(uint block, uint positions, uint splits) {
  for (uint part = group; part < HEADS * splits; part += GROUPS) {
    if (id < ATTENDERS && (AHEAD <= 2u || part != group))
      load_rows(block, part % HEADS, part_range(part, positions, splits).x, positions);
    attend(block, positions, splits, part);
    barrier();
  }
  if (splits > 1u) {
    for (uint head = group; head < HEADS; head += GROUPS) {
      for (uint element = head * HEAD_SIZE + id; element < (head + 1u) * HEAD_SIZE; element += LOCAL)
        send(mailbox + ATTENTION_MAIL + element, merge_splits(element, splits));
    }
  }
}
void stage_received(uint first, uint count) {
  float values[WISP_P_SHARE];
  receive(first, count, tag, values);
  [[unroll]] for (uint i = 0u; i < WISP_P_SHARE; i++) {
    if (i * LOCAL < count && id + i * LOCAL < count) set_input(id + i * LOCAL, values[i]);
  }
}

// ---- The next token ----

// The greater value, of equal ones that with the lower id, over all invocations: in softmaxes[0], the id as float bits.
void choose(float best, uint best_id) {
  [[unroll]] for (uint mask = 1u; mask < SUBGROUP; mask <<= 1) {
    const float other = subgroupShuffleXor(best, mask);
    const uint other_id = subgroupShuffleXor(best_id, mask);
    if (other > best || (other == best && other_id < best_id)) {
      best = other;
      best_id = other_id;
    }
  }
  if (id % SUBGROUP == 0u) softmaxes[id / SUBGROUP] = vec2(best, uintBitsToFloat(best_id));
  barrier();
  if (id == 0u) {
    vec2 winner = softmaxes[0];
    for (uint i = 1u; i < SUBGROUPS; i++) {
      const bool lower = floatBitsToUint(softmaxes[i].y) < floatBitsToUint(winner.y);
      if (softmaxes[i].x > winner.x || (softmaxes[i].x == winner.x && lower)) winner = softmaxes[i];
    }
    softmaxes[0] = winner;
  }
}

void finish_head() {
  const float factor = norm_factor();
  float best = MINUS_INFINITY;
  uint best_id = 0xffffffffu;
  for (uint i = 0u; i < CEIL(4u * HEAD_ITEMS, LOCAL); i++) {
    const uint row = result_row(i);
    if (id + i * LOCAL < 4u * HEAD_ITEMS && row < VOCABULARY) {
      const float logit = factor * take_sum((id + i * LOCAL) / 4u, HEAD_SLICES, id);
      data[LOGITS + row] = logit;
      if (logit > best) {  // ascending rows; not for NaN
        best = logit;
        best_id = row;
      }
    }
  }
  choose(best, best_id);
  if (id == 0u) {
    send(CANDIDATE_MAIL + 2u * group, softmaxes[0].x);
    send(CANDIDATE_MAIL + 2u * group + 1u, softmaxes[0].y);
  }
}

void next_token(uint position) {
  float best = MINUS_INFINITY;
  uint best_id = 0xffffffffu;
  for (uint i = id; i < GROUPS; i += LOCAL) {
    const float other = receive_one(CANDIDATE_MAIL + 2u * i);
    const uint other_id = floatBitsToUint(receive_one(CANDIDATE_MAIL + 2u * i + 1u));
    if (other > best || (other == best && other_id < best_id)) {
      best = other;
      best_id = other_id;
    }
  }
  barrier();
  choose(best, best_id);
  if (id == 0u && failed == 0u) {
    const uint token = floatBitsToUint(softmaxes[0].y);
    tokens[position + 1u] = token < VOCABULARY ? token : 0u;
    steps[WISP_STEP_POSITION] = position + 1u;
    steps[WISP_STEP_COUNT] = 1u;
    steps[WISP_STEP_SERIAL]++;
  }
}

// ---- Token ----

// What was staged may be read; false: a mail was lost, the end.
#define MEET                              \
  barrier();                              \
  if (failed != 0u) {                     \
    if (id == 0u) steps[WISP_STEP_FAILED] = 1u; \
    return;                               \
  }

void main() {
  id = gl_LocalInvocationID.x;
  group = gl_WorkGroupID.x;
  const uint position = steps[WISP_STEP_POSITION] + steps[WISP_STEP_COUNT] - 1u, serial = steps[WISP_STEP_SERIAL];
  if (steps[WISP_STEP_FAILED] != 0u) return;
  if (id == 0u) failed = 0u;
  for (uint i = id; i < CEIL(WIDEST, 32u) * INPUT_STRIDE; i += LOCAL) inputs[i] = 0.0;  // what pads a last block
  load_qkv(FIRST);
  load_attn_out(FIRST);
  load_gate_up(FIRST);
  load_down(FIRST);
  const uint splits = split_count(position + 1u);
  const uint turn = ROPE + position * ROPE_STRIDE + result_row(0u) % HEAD_SIZE / 2u * 2u;
  const vec2 angle = vec2(data[turn], data[turn + 1u]);
  float attn_norm[WISP_P_SHARE], ffn_norm[WISP_P_SHARE];
  take_norm(FIRST + ATTN_NORM, attn_norm);
  take_norm(FIRST + FFN_NORM, ffn_norm);
  embed(tokens[position]);
  barrier();

  for (uint block = 0u; block < BLOCKS; block++) {
    const uint window = FIRST + block / REPEAT * STRIDE;
    const uint next = FIRST + (block + 1u) / REPEAT * STRIDE;
    const bool load_next = block + 1u < BLOCKS && (block + 1u) % REPEAT == 0u;
    const uint previous = mailbox, previous_tag = tag;
    mailbox = block % 2u * MAILBOX;
    tag = serial * (BLOCKS + 1u) + block + 1u;

    if (block > 0u) add_received(previous + DOWN_MAIL, previous_tag);
    stage_normed(attn_norm);
    MEET
    if (load_next) take_norm(next + ATTN_NORM, attn_norm);
    if (AHEAD > 2u) load_attention(block, position + 1u, splits);
    run_qkv(window);
    if (load_next) load_qkv(next);
    barrier();
    finish_qkv(block, position, window, angle);

    attention(block, position + 1u, splits);
    MEET

    stage_received(mailbox + ATTENTION_MAIL, Q_ROWS);
    MEET
    run_attn_out(window);
    if (load_next) load_attn_out(next);
    barrier();
    finish_attn_out();

    add_received(mailbox + ATTN_OUT_MAIL, tag);
    stage_normed(ffn_norm);
    MEET
    if (load_next) take_norm(next + FFN_NORM, ffn_norm);
    run_gate_up(window);
    if (load_next) load_gate_up(next);
    barrier();
    finish_gate_up();

    stage_received(mailbox + HIDDEN_MAIL, FFN_WIDTH);
    MEET
    run_down(window);
    if (load_next) load_down(next);
    barrier();
    finish_down();
  }

  float final_norm[WISP_P_SHARE];
  take_norm(HEAD + FINAL_NORM, final_norm);
  add_received(mailbox + DOWN_MAIL, tag);
  stage_normed(final_norm);
  MEET
  run_head(HEAD);
  barrier();
  tag = serial * (BLOCKS + 1u) + BLOCKS + 1u;
  finish_head();
  barrier();
  if (group == 0u) next_token(position);
}
