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
// Those weights are asked for STREAM units ahead: a whole block where that fits, which is then kept if the block is executed again.
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
layout(constant_id = WISP_P_STREAM) const uint STREAM = 1;
layout(constant_id = WISP_P_ACROSS) const uint ACROSS = 1;
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

#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
const uint ATTN_OUT_BEGIN = QKV_ROUNDS * QKV_UNIT_ROUNDS;  // in a block's units
const uint GATE_UP_BEGIN = ATTN_OUT_BEGIN + ATTN_OUT_ROUNDS * ATTN_OUT_UNIT_ROUNDS;
const uint DOWN_BEGIN = GATE_UP_BEGIN + GATE_UP_ROUNDS * GATE_UP_UNIT_ROUNDS;
const uint STREAM_UNITS = DOWN_BEGIN + DOWN_ROUNDS * DOWN_UNIT_ROUNDS;
const uint STREAM_END = CEIL(STREAM_UNITS, STREAM) * STREAM;  // so that each block's first unit lies in stream[0]
const uint QKV_BEGIN = 0u;

#define INPUT_STRIDE 9u  // vec4 of a block of 32 inputs: neighbouring slices read different banks
const uint WIDEST = MAX(MAX(WIDTH, Q_ROWS), FFN_WIDTH);
const uint BLOCK_PARTIALS = MAX(MAX(QKV_PARTIALS, ATTN_OUT_PARTIALS), MAX(GATE_UP_PARTIALS, DOWN_PARTIALS));
const uint PARTIALS = MAX(BLOCK_PARTIALS, HEAD_PARTIALS);

shared vec4 inputs[CEIL(WIDEST, 32u) * INPUT_STRIDE];
shared float partials[PARTIALS];           // [slot][subgroup of the team][row]
shared float squares[SUBGROUPS];
shared vec2 softmaxes[SUBGROUPS];          // (maximum, total)
shared vec4 weighted[SUBGROUPS * HEAD_SIZE / 4u];  // [subgroup][HEAD_SIZE / 4]
shared uint failed;

uint id, group;
uint tag;                // of this execution's mail
uint mailbox;            // its first word
float x[WISP_P_SHARE];   // residual stream: elements id + i * LOCAL

#include "lib/persistent_mail.glsl"
#include "lib/persistent_rows.glsl"

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

#include "lib/persistent_attention.glsl"

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
  for (uint i = id; i < CEIL(WIDEST, 32u) * INPUT_STRIDE; i += LOCAL) inputs[i] = vec4(0.0);  // what pads a last block
  [[unroll]] for (uint n = 0u; n < STREAM; n++) ask(n, STREAM_END, FIRST, FIRST, false);
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
    const bool last = block + 1u == BLOCKS, load_next = !last && (block + 1u) % REPEAT == 0u;
    const bool more = STREAM < STREAM_UNITS ? !last : load_next;  // a block that is held whole stays for its next execution
    const uint previous = mailbox, previous_tag = tag;
    mailbox = block % 2u * MAILBOX;
    tag = serial * (BLOCKS + 1u) + block + 1u;

    if (block > 0u) add_received(previous + DOWN_MAIL, previous_tag);
    stage_normed(attn_norm);
    MEET
    if (load_next) take_norm(next + ATTN_NORM, attn_norm);
    if (AHEAD > 2u) load_attention(block, position + 1u, splits);
    run_qkv(window, next, more);
    barrier();
    finish_qkv(block, position, window, angle);

    attention(block, position + 1u, splits);
    MEET

    stage_received(mailbox + ATTENTION_MAIL, Q_ROWS);
    MEET
    run_attn_out(window, next, more);
    barrier();
    finish_attn_out();

    add_received(mailbox + ATTN_OUT_MAIL, tag);
    stage_normed(ffn_norm);
    MEET
    if (load_next) take_norm(next + FFN_NORM, ffn_norm);
    run_gate_up(window, next, more);
    barrier();
    finish_gate_up();

    stage_received(mailbox + HIDDEN_MAIL, FFN_WIDTH);
    MEET
    run_down(window, next, more);
    [[unroll]] for (uint n = STREAM_UNITS; n < STREAM_END; n++) ask(n + STREAM, DOWN_BEGIN, window, next, more);
    barrier();
    finish_down();
  }

  float final_norm[WISP_P_SHARE];
  take_norm(HEAD + FINAL_NORM, final_norm);
  ask_head(0u);
  add_received(mailbox + DOWN_MAIL, tag);
  stage_normed(final_norm);
  MEET
  run_head();
  barrier();
  tag = serial * (BLOCKS + 1u) + BLOCKS + 1u;
  finish_head();
  barrier();
  if (group == 0u) next_token(position);
}
