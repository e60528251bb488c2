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
// A team of 4 * SLICES invocations takes 4 neighbouring rows, an invocation one of them and every SLICES-th block of 32 weights.
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
layout(constant_id = WISP_P_HOLD) const uint QKV_HOLD = 0;
layout(constant_id = WISP_P_HOLD + 1) const uint ATTN_OUT_HOLD = 0;
layout(constant_id = WISP_P_HOLD + 2) const uint GATE_UP_HOLD = 0;
layout(constant_id = WISP_P_HOLD + 3) const uint DOWN_HOLD = 0;
const uint HEAD_HOLD = 0;
layout(constant_id = WISP_P_SPLIT) const uint SPLIT = 64;
layout(constant_id = WISP_P_SPINS) const uint SPINS = 1000;

layout(set = 0, binding = WISP_BIND_KV_VEC4) readonly buffer KvVec4 { uvec4 kv4[]; };
layout(set = 0, binding = WISP_BIND_KV_WORD) writeonly buffer KvWord { uint kv[]; };
layout(set = 0, binding = WISP_BIND_DATA) buffer Data { float data[]; };
layout(set = 0, binding = WISP_BIND_MAIL) buffer Mail { uint64_t mail[]; };

const uint Q_ROWS = HEADS * HEAD_SIZE, KV_ROWS = KV_HEADS * HEAD_SIZE, QKV_ROWS = Q_ROWS + 2u * KV_ROWS;
const uint SPLITS = GROUPS > HEADS ? GROUPS / HEADS : 1u;  // at most
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
#define PHASE(name, rows, cols, slices, matrices)                                                                 \
  const uint name##_BLOCKS = CEIL(cols, 32u);                                                                     \
  const uint name##_TEAMS = LOCAL / (4u * slices);                                                                \
  const uint name##_ITEMS = CEIL(CEIL(rows, 4u), GROUPS);                                                         \
  const uint name##_SLOTS = matrices * name##_ITEMS;                                                              \
  const uint name##_BLOCK_ROUNDS = CEIL(name##_BLOCKS, slices);                                                   \
  const uint name##_ROUNDS = CEIL(name##_SLOTS, name##_TEAMS);                                                    \
  const uint name##_UNITS = name##_ROUNDS * name##_BLOCK_ROUNDS;                                                  \
  const uint name##_PARTIALS = name##_SLOTS * (4u * slices / SUBGROUP) * 4u;
PHASE(QKV, QKV_ROWS, WIDTH, QKV_SLICES, 1u)
PHASE(ATTN_OUT, WIDTH, Q_ROWS, ATTN_OUT_SLICES, 1u)
PHASE(GATE_UP, FFN_WIDTH, WIDTH, GATE_UP_SLICES, 2u)
PHASE(DOWN, WIDTH, FFN_WIDTH, DOWN_SLICES, 1u)
PHASE(HEAD, VOCABULARY, WIDTH, HEAD_SLICES, 1u)

const uint WIDEST = WIDTH > Q_ROWS ? (WIDTH > FFN_WIDTH ? WIDTH : FFN_WIDTH) : (Q_ROWS > FFN_WIDTH ? Q_ROWS : FFN_WIDTH);
const uint MOST_1 = QKV_PARTIALS > GATE_UP_PARTIALS ? QKV_PARTIALS : GATE_UP_PARTIALS;
const uint MOST_2 = ATTN_OUT_PARTIALS > DOWN_PARTIALS ? ATTN_OUT_PARTIALS : DOWN_PARTIALS;
const uint MOST_3 = MOST_1 > MOST_2 ? MOST_1 : MOST_2;
const uint PARTIALS = MOST_3 > HEAD_PARTIALS ? MOST_3 : HEAD_PARTIALS;

shared float inputs[CEIL(WIDEST, 32u) * 32u];
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

struct Unit {  // a block of 32 weights of a row, of layouts with at most 2 vectors
  uvec4 first, second;
  uint scale;  // as it was loaded: what is asked for ahead must not be looked at
};

// Where unit k of this invocation lies; false: nowhere.
bool place(uint k, uint rows, uint blocks, uint slices, uint matrices, out uint slot, out uint row, out uint block) {
  const uint rounds = CEIL(blocks, slices), teams = LOCAL / (4u * slices), team = id / (4u * slices);
  slot = k / rounds * teams + team;
  row = 4u * (slot / matrices * GROUPS + group) + id % 4u;
  block = k % rounds * slices + id % (4u * slices) / 4u;
  return team < teams && row < rows && block < blocks;
}

uint unit_index(uint row, uint blocks, uint block) { return (row / 8u * blocks + block) * 8u + row % 8u; }

uvec4 load_vector(Matrix m, uint index, uint vector) {
  const uint vectors = block_vectors(m.layout_id);
  return weights4[m.quants + (index / 8u * vectors + vector) * 8u + index % 8u];
}

Unit load_unit(Matrix m, uint index) {
  Unit u;
  u.first = load_vector(m, index, 0u);
  u.second = block_vectors(m.layout_id) > 1u ? load_vector(m, index, 1u) : uvec4(0u);
  u.scale = scale_word(m, index);
  return u;
}

vec4 input4(uint at) { return vec4(inputs[at], inputs[at + 1u], inputs[at + 2u], inputs[at + 3u]); }
void set_input(uint at, float value) { inputs[at] = value; }

// sum += weights of one vector . inputs; total += inputs
void dot_vector(uint layout_id, uvec4 v, uint at, inout float sum, inout float total) {
  const uint parts = vector_parts(layout_id);
  [[unroll]] for (uint part = 0u; part < 8u; part++) {
    if (part < parts) {
      const vec4 values = input4(at + 4u * part);
      sum += dot(vector_part(layout_id, v, part), values);
      total += dot(vec4(1.0), values);
    }
  }
}

float dot_unit(uint layout_id, Unit u, uint block) {
  const uint row = id % 4u;  // as even as the row itself
  const vec2 scale = word_scale(layout_id, u.scale, row, true);
  float sum = 0.0, total = 0.0, first_half = 0.0;
  dot_vector(layout_id, u.first, 32u * block, sum, total);
  if (block_vectors(layout_id) > 1u) {
    if (layout_id == WISP_LAYOUT_Q8H) {
      first_half = word_scale(layout_id, u.scale, row, false).x * sum;
      sum = 0.0;
    }
    dot_vector(layout_id, u.second, 32u * block + 16u, sum, total);
  }
  return first_half + scale.x * sum + scale.y * total;
}

// For layouts of more than 2 vectors, whose weights are not held.
float dot_wide(Matrix m, uint index, uint block) {
  const uint vectors = block_vectors(m.layout_id), each = 4u * vector_parts(m.layout_id);
  uvec4 v[8];
  [[unroll]] for (uint i = 0u; i < 8u; i++) if (i < vectors) v[i] = load_vector(m, index, i);
  float sum = 0.0, total = 0.0;
  [[unroll]] for (uint i = 0u; i < 8u; i++) if (i < vectors) dot_vector(m.layout_id, v[i], 32u * block + i * each, sum, total);
  return sum;
}

bool holds(uint layout_id) { return block_vectors(layout_id) <= 2u; }

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
#define ROWS_OF(name, NAME, rows, layout_id, matrices)                                                              \
  Unit name##_held[WISP_P_MOST_HELD];                                                                                           \
  void load_##name(uint window) {                                                                                   \
    [[unroll]] for (uint k = 0u; k < WISP_P_MOST_HELD; k++) {                                                                   \
      uint slot, row, block;                                                                                        \
      if (k < NAME##_HOLD && k < NAME##_UNITS &&                                                                   \
          place(k, rows, NAME##_BLOCKS, NAME##_SLICES, matrices, slot, row, block)) {                               \
        const Matrix m = name##_matrix(window, slot, row);                                                          \
        name##_held[k] = load_unit(m, unit_index(row, NAME##_BLOCKS, block));                                       \
      }                                                                                                             \
    }                                                                                                               \
  }                                                                                                                 \
  float name##_unit(uint window, uint k, inout uint slot) {                                                         \
    uint row, block;                                                                                                \
    if (!place(k, rows, NAME##_BLOCKS, NAME##_SLICES, matrices, slot, row, block)) return 0.0;                      \
    const Matrix m = name##_matrix(window, slot, row);                                                              \
    const uint index = unit_index(row, NAME##_BLOCKS, block);                                                       \
    return holds(layout_id) ? dot_unit(layout_id, load_unit(m, index), block) : dot_wide(m, index, block);          \
  }                                                                                                                 \
  void run_##name(uint window) {                                                                                    \
    [[unroll]] for (uint r = 0u; r < NAME##_ROUNDS; r++) {                                                          \
      uint slot = 0u, row, block;                                                                                   \
      float sum = 0.0;                                                                                              \
      [[unroll]] for (uint i = 0u; i < NAME##_BLOCK_ROUNDS; i++) {                                                  \
        const uint k = r * NAME##_BLOCK_ROUNDS + i;                                                                 \
        if (k < NAME##_HOLD) {                                                                         \
          if (place(k, rows, NAME##_BLOCKS, NAME##_SLICES, matrices, slot, row, block))                             \
            sum += dot_unit(layout_id, name##_held[k], block);                                      \
        } else {                                                                                                    \
          sum += name##_unit(window, k, slot);                                                                      \
        }                                                                                                           \
      }                                                                                                             \
      put_partial(sum, slot, NAME##_SLOTS, NAME##_SLICES);                                                          \
    }                                                                                                               \
  }
ROWS_OF(qkv, QKV, QKV_ROWS, Q_LAYOUT, 1u)
ROWS_OF(attn_out, ATTN_OUT, WIDTH, ATTN_OUT_LAYOUT, 1u)
ROWS_OF(gate_up, GATE_UP, FFN_WIDTH, GATE_LAYOUT, 2u)
ROWS_OF(down, DOWN, WIDTH, DOWN_LAYOUT, 1u)
ROWS_OF(head, HEAD, VOCABULARY, HEAD_LAYOUT, 1u)

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
      x[i] = EMBEDDING_SCALE * (quad[element % 4u] * scale.x + scale.y);
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
const uint POSITION_TEAMS = LOCAL / PART_COUNT;
#define AHEAD 2

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

Softmax merge(Softmax a, Softmax b) {
  const float maximum = max(a.maximum, b.maximum);
  if (maximum == MINUS_INFINITY) return a;  // neither has seen a position
  const float p = exp(a.maximum - maximum), q = exp(b.maximum - maximum);
  return Softmax(maximum, p * a.total + q * b.total, p * a.low + q * b.low, p * a.high + q * b.high);
}

// As the KV cache will hold it.
float stored(float value) { return KV_F32 == 1u ? value : unpackHalf2x16(half_bits(value)).x; }

Row staged_row(uint first) { return Row(input4(first), input4(first + 4u)); }

uint split_count(uint positions) { return clamp(CEIL(positions, SPLIT), 1u, SPLITS); }

void attend(uint block, uint positions, uint splits, uint head, uint split) {
  const uint each = CEIL(positions, splits);
  const uint begin = split * each, end = min(begin + each, positions);
  const uint part = id % PART_COUNT, team = id / PART_COUNT;
  const uint key = head / (HEADS / KV_HEADS) * HEAD_SIZE, row_elements = 2u * KV_ROWS;

  RawRow raw_k[AHEAD], raw_v[AHEAD];
  [[unroll]] for (uint i = 0u; i < AHEAD; i++) {
    const uint element = min(begin + i * POSITION_TEAMS + team, positions - 1u) * row_elements + key + 8u * part;
    raw_k[i] = load_row(block, element);
    raw_v[i] = load_row(block, element + KV_ROWS);
  }
  // The head's query, and this token's key and value: inputs[3][HEAD_SIZE].
  for (uint i = id; i < 3u * HEAD_SIZE; i += LOCAL) {
    const uint which = i / HEAD_SIZE, element = i % HEAD_SIZE;
    const float value = receive_one(mailbox + QKV_MAIL + (which == 0u ? head * HEAD_SIZE : Q_ROWS + (which - 1u) * KV_ROWS + key) + element);
    set_input(i, which == 0u ? ATTENTION_SCALE * value : stored(value));
  }
  barrier();
  const Row query = staged_row(8u * part);

  Softmax s = Softmax(MINUS_INFINITY, 0.0, vec4(0.0), vec4(0.0));
  for (uint first = begin; first < end; first += AHEAD * POSITION_TEAMS) {
    Row k[AHEAD], v[AHEAD];
    float scores[AHEAD];
    float maximum = s.maximum;
    [[unroll]] for (uint i = 0u; i < AHEAD; i++) {
      const uint position = first + i * POSITION_TEAMS + team;
      k[i] = unpack_row(raw_k[i]);
      v[i] = unpack_row(raw_v[i]);
      if (position + 1u == positions) {
        k[i] = staged_row(HEAD_SIZE + 8u * part);
        v[i] = staged_row(2u * HEAD_SIZE + 8u * part);
      }
      float score = dot(query.low, k[i].low) + dot(query.high, k[i].high);
      [[unroll]] for (uint mask = 1u; mask < PART_COUNT; mask <<= 1) score += subgroupShuffleXor(score, mask);
      scores[i] = position < end ? score : MINUS_INFINITY;
      maximum = max(maximum, scores[i]);
    }
    if (maximum > MINUS_INFINITY) {
      const float correction = exp(s.maximum - maximum);
      s.maximum = maximum;
      s.total *= correction;
      s.low *= correction;
      s.high *= correction;
      [[unroll]] for (uint i = 0u; i < AHEAD; i++) {
        const float weight = exp(scores[i] - maximum);
        s.total += weight;
        s.low += weight * (scores[i] > MINUS_INFINITY ? v[i].low : vec4(0.0));
        s.high += weight * (scores[i] > MINUS_INFINITY ? v[i].high : vec4(0.0));
      }
    }
    if (first + AHEAD * POSITION_TEAMS < end) {
      [[unroll]] for (uint i = 0u; i < AHEAD; i++) {
        const uint position = min(first + (AHEAD + i) * POSITION_TEAMS + team, positions - 1u);
        raw_k[i] = load_row(block, position * row_elements + key + 8u * part);
        raw_v[i] = load_row(block, position * row_elements + key + 8u * part + KV_ROWS);
      }
    }
  }

  [[unroll]] for (uint mask = PART_COUNT; mask < SUBGROUP; mask <<= 1) {
    const Softmax other = Softmax(subgroupShuffleXor(s.maximum, mask), subgroupShuffleXor(s.total, mask),
                                  subgroupShuffleXor(s.low, mask), subgroupShuffleXor(s.high, mask));
    s = merge(s, other);
  }
  if (id % SUBGROUP < PART_COUNT) {
    softmaxes[id / SUBGROUP] = vec2(s.maximum, s.total);
    weighted[id / SUBGROUP * (HEAD_SIZE / 4u) + 2u * part] = s.low;
    weighted[id / SUBGROUP * (HEAD_SIZE / 4u) + 2u * part + 1u] = s.high;
  }
  barrier();
  for (uint element = id; element < HEAD_SIZE; element += LOCAL) {
    float maximum = MINUS_INFINITY, total = 0.0, sum = 0.0;
    [[unroll]] for (uint i = 0u; i < SUBGROUPS; i++) maximum = max(maximum, softmaxes[i].x);
    [[unroll]] for (uint i = 0u; i < SUBGROUPS; i++) {
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
    attend(block, positions, splits, part % HEADS, part / HEADS);
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
  for (uint i = id; i < CEIL(WIDEST, 32u) * 32u; i += LOCAL) inputs[i] = 0.0;  // what pads a last block
  load_qkv(FIRST);
  load_attn_out(FIRST);
  load_gate_up(FIRST);
  load_down(FIRST);
  const uint splits = split_count(position + 1u);
  const uint turn = ROPE + position * ROPE_STRIDE + result_row(0u) % HEAD_SIZE / 2u * 2u;
  const vec2 angle = vec2(data[turn], data[turn + 1u]);
  embed(tokens[position]);
  barrier();

  for (uint block = 0u; block < BLOCKS; block++) {
    const uint window = FIRST + block / REPEAT * STRIDE;
    const uint next = FIRST + (block + 1u) / REPEAT * STRIDE;
    const bool load_next = block + 1u < BLOCKS && (block + 1u) % REPEAT == 0u;
    const uint previous = mailbox, previous_tag = tag;
    mailbox = block % 2u * MAILBOX;
    tag = serial * (BLOCKS + 1u) + block + 1u;
    float weight[WISP_P_SHARE];

    take_norm(window + ATTN_NORM, weight);
    if (block > 0u) add_received(previous + DOWN_MAIL, previous_tag);
    stage_normed(weight);
    MEET
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

    take_norm(window + FFN_NORM, weight);
    add_received(mailbox + ATTN_OUT_MAIL, tag);
    stage_normed(weight);
    MEET
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

  float weight[WISP_P_SHARE];
  take_norm(HEAD + FINAL_NORM, weight);
  add_received(mailbox + DOWN_MAIL, tag);
  stage_normed(weight);
  MEET
  run_head(HEAD);
  barrier();
  tag = serial * (BLOCKS + 1u) + BLOCKS + 1u;
  finish_head();
  barrier();
  if (group == 0u) next_token(position);
}
