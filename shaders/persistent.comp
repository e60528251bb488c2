#version 450
// SPDX-License-Identifier: Apache-2.0
// A whole token in one dispatch: GROUPS workgroups, all resident, run every block side by side and send each other what they make,
// in 64-bit words that tell by themselves whether it has come, so that nothing else needs ordering. A mail is a float and a tag. A sum is
// one element of what attn_out, or down, have added to the residual stream, in fixed point, and how many have added: sums of integers
// need no order. Each workgroup holds the whole residual stream (LOCAL invocations, SHARE elements each):
//   qkv       x += down's sums; rows of q, k, v                                  -> mail, KV slot
//   attention PER_HEAD workgroups a head, each of all positions, or, where there are many, of a split of them -> mail, merged by each
//   attn_out  its head's columns times a share of the rows                       -> sums
//   gate_up   x += attn_out's sums; rows of gate and up: its hidden units, that stay
//   down      its hidden units' columns times all rows                           -> sums
// Sums go on through all blocks of a token. Each workgroup has rows of q, k and v and makes them when it has read all of the block
// before; whoever has all of attn_out's sums knows that all of these rows were made. So nobody adds to down's sums too early, and where
// two mailboxes and two sets of attn_out's sums take turns, nobody is too early there.
// A team of 4 * SLICES invocations takes 4 neighbouring rows, an invocation one of them and every SLICES-th unit: a block of 32
// weights, or one of the PARTS of it. In down, an invocation takes a row and all of its units.
// Those weights are asked for STREAM units ahead: a whole block where that fits, which is then kept if the block is executed again.
// A mail or sum that does not come within SPINS looks sets steps[WISP_STEP_FAILED]; every workgroup then ends.
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
layout(constant_id = WISP_P_SLICES + 1) const uint GATE_UP_SLICES = 8;
layout(constant_id = WISP_P_SLICES + 2) const uint HEAD_SLICES = 8;
layout(constant_id = WISP_P_PARTS) const uint QKV_PARTS = 1;
layout(constant_id = WISP_P_PARTS + 1) const uint GATE_UP_PARTS = 1;
layout(constant_id = WISP_P_PARTS + 2) const uint HEAD_PARTS = 1;
layout(constant_id = WISP_P_PARTS + 3) const uint ATTN_OUT_PARTS = 4;
layout(constant_id = WISP_P_PARTS + 4) const uint DOWN_PARTS = 4;
layout(constant_id = WISP_P_HIDDEN) const uint HIDDEN = 4;
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
const uint PER_HEAD = GROUPS / HEADS;

// A mailbox; then the candidates for the next token, (logit, id)[GROUPS]; then the sums.
const uint QKV_MAIL = 0u;
const uint SPLIT_MAIL = QKV_MAIL + QKV_ROWS;                  // [split][head][HEAD_SIZE], not yet divided by the total
const uint SOFTMAX_MAIL = SPLIT_MAIL + SPLITS * Q_ROWS;       // (maximum, total)[split][head]
const uint MAILBOX = SOFTMAX_MAIL + SPLITS * HEADS * 2u;
const uint CANDIDATE_MAIL = 2u * MAILBOX;
const uint ATTN_OUT_SUMS = (CANDIDATE_MAIL + 2u * GROUPS + 15u) / 16u * 16u;
const uint SUMS = (WIDTH + 3u) / 4u * 16u;                    // of a set
const uint DOWN_SUMS = ATTN_OUT_SUMS + 2u * SUMS;
const uint MAIL_END = DOWN_SUMS + SUMS;

#define CEIL(a, b) (((a) + (b) - 1u) / (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define PHASE(name, cols, items, slices, matrices)                 \
  const uint name##_BLOCKS = CEIL(cols, 32u);                      \
  const uint name##_UNITS = name##_BLOCKS * name##_PARTS;          \
  const uint name##_TEAMS = LOCAL / (4u * slices);                 \
  const uint name##_ITEMS = items;                                 \
  const uint name##_UNIT_ROUNDS = CEIL(name##_UNITS, slices);      \
  const uint name##_ROUNDS = CEIL(name##_ITEMS, name##_TEAMS);     \
  const uint name##_COUNT = name##_ROUNDS * name##_UNIT_ROUNDS * matrices; \
  const uint name##_PARTIALS = matrices * name##_ITEMS * (4u * slices / SUBGROUP) * 4u;
PHASE(QKV, WIDTH, CEIL(CEIL(QKV_ROWS, 4u), GROUPS), QKV_SLICES, 1u)
PHASE(GATE_UP, WIDTH, HIDDEN / 4u, GATE_UP_SLICES, 2u)
PHASE(HEAD, WIDTH, CEIL(CEIL(VOCABULARY, 4u), GROUPS), HEAD_SLICES, 1u)

const uint ATTN_OUT_BLOCKS = CEIL(Q_ROWS, 32u);
const uint ATTN_OUT_UNITS = HEAD_SIZE * ATTN_OUT_PARTS / 32u;     // of a head's columns
const uint ATTN_OUT_SLICES = MIN(ATTN_OUT_UNITS, SUBGROUP / 4u);
const uint ATTN_OUT_TEAM = 4u * ATTN_OUT_SLICES;
const uint ATTN_OUT_TEAMS = LOCAL / ATTN_OUT_TEAM;
const uint ATTN_OUT_QUADS = CEIL(CEIL(WIDTH, 4u), PER_HEAD);      // of rows
const uint ATTN_OUT_UNIT_ROUNDS = CEIL(ATTN_OUT_UNITS, ATTN_OUT_SLICES);
const uint ATTN_OUT_ROUNDS = CEIL(ATTN_OUT_QUADS, ATTN_OUT_TEAMS);
const uint ATTN_OUT_COUNT = ATTN_OUT_ROUNDS * ATTN_OUT_UNIT_ROUNDS;
const uint FEEDERS = CEIL(FFN_WIDTH, HIDDEN);                     // workgroups that have hidden units
const uint DOWN_BLOCKS = CEIL(FFN_WIDTH, 32u);
const uint DOWN_COLUMNS = 32u / DOWN_PARTS;                       // of a unit; hidden units may begin and end inside one
const uint DOWN_UNIT_ROUNDS = CEIL(HIDDEN + (HIDDEN % DOWN_COLUMNS == 0u ? 0u : DOWN_COLUMNS - 4u), DOWN_COLUMNS);
const uint DOWN_ROUNDS = CEIL(WIDTH, LOCAL);
const uint DOWN_COUNT = DOWN_ROUNDS * DOWN_UNIT_ROUNDS;

const uint ATTN_OUT_BEGIN = QKV_COUNT;  // in a block's units
const uint GATE_UP_BEGIN = ATTN_OUT_BEGIN + ATTN_OUT_COUNT;
const uint DOWN_BEGIN = GATE_UP_BEGIN + GATE_UP_COUNT;
const uint STREAM_UNITS = DOWN_BEGIN + DOWN_COUNT;
const uint STREAM_END = CEIL(STREAM_UNITS, STREAM) * STREAM;  // so that each block's first unit lies in stream[0]
const uint QKV_BEGIN = 0u;

#define INPUT_STRIDE 9u  // vec4 of a block of 32 inputs: neighbouring slices read different banks
const uint OWN = CEIL(WIDTH, 32u);  // first block of inputs that no other workgroup has: attention's results, hidden units
const uint OWN_BLOCKS = CEIL(MAX(24u + HEAD_SIZE, 32u + DOWN_COLUMNS * (DOWN_UNIT_ROUNDS - 1u)), 32u);
const uint INPUTS = (OWN + OWN_BLOCKS) * INPUT_STRIDE;
const uint PARTIALS = MAX(MAX(QKV_PARTIALS, GATE_UP_PARTIALS), HEAD_PARTIALS);

shared vec4 inputs[INPUTS];
shared vec4 token_rows[3u * HEAD_SIZE / 4u];  // a head's query, this token's key and value
shared float partials[PARTIALS];           // [slot][subgroup of the team][row]
shared float squares[SUBGROUPS];
shared vec2 softmaxes[SUBGROUPS];          // (maximum, total)
shared vec4 weighted[SUBGROUPS * HEAD_SIZE / 4u];  // [subgroup][HEAD_SIZE / 4]
shared uint failed;
shared float norm_factor;

uint id, group;
uint tag;                // of this execution's mail
uint mailbox;            // its first word
// Elements id + i * LOCAL of the residual stream, which is the sum of these: attended of the last block's set of sums, and of the other.
float embedded[WISP_P_SHARE], attended[WISP_P_SHARE], attended_before[WISP_P_SHARE], fed[WISP_P_SHARE];

#include "lib/persistent_mail.glsl"
#include "lib/persistent_rows.glsl"

// ---- Residual stream ----

void take_norm(uint at, out float weight[WISP_P_SHARE]) {
  [[unroll]] for (uint i = 0u; i < WISP_P_SHARE; i++) {
    if (i * LOCAL < WIDTH && id + i * LOCAL < WIDTH) weight[i] = uintBitsToFloat(weights[4u * at + id + i * LOCAL]);
  }
}

// inputs = x * weight, squares = sum of x^2 over each subgroup; norm_factor goes to the results.
void stage_normed(float weight[WISP_P_SHARE]) {
  float sum = 0.0;
  [[unroll]] for (uint i = 0u; i < WISP_P_SHARE; i++) {
    if (i * LOCAL < WIDTH && id + i * LOCAL < WIDTH) {
      const float x = embedded[i] + attended[i] + attended_before[i] + fed[i];
      set_input(id + i * LOCAL, x * weight[i]);
      sum += x * x;
    }
  }
  [[unroll]] for (uint mask = 1u; mask < SUBGROUP; mask <<= 1) sum += subgroupShuffleXor(sum, mask);
  if (id % SUBGROUP == 0u) squares[id / SUBGROUP] = sum;
}

// The factor 1/rms, by an invocation that has less to do than others, while they multiply.
void find_norm_factor() {
  if (id + 1u != LOCAL) return;
  float sum = 0.0;
  [[unroll]] for (uint i = 0u; i < SUBGROUPS; i++) sum += squares[i];
  norm_factor = inversesqrt(sum / float(WIDTH) + EPSILON);
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
      embedded[i] = EMBEDDING_SCALE * (((element & 1u) == 0u ? pair.x : pair.y) * scale.x + scale.y);
    }
  }
}

// ---- Ops ----

void finish_qkv(uint block, uint position, uint window, vec2 angle) {
  const uint row = result_row(0u);
  const bool mine = id < 4u * QKV_ITEMS && row < QKV_ROWS;
  float value = 0.0;
  if (mine) value = norm_factor * take_sum(id / 4u, QKV_SLICES, id);
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

// This workgroup's hidden units; where down's units begin and end with others, 0 for them.
void finish_gate_up() {
  const uint begin = HIDDEN * group, end = min(begin + HIDDEN, FFN_WIDTH);
  [[unroll]] for (uint i = 0u; i < CEIL(DOWN_COLUMNS * DOWN_UNIT_ROUNDS, LOCAL); i++) {
    const uint hidden = begin / DOWN_COLUMNS * DOWN_COLUMNS + id + i * LOCAL, slot = (hidden - begin) / 4u * 2u;
    if (id + i * LOCAL < DOWN_COLUMNS * DOWN_UNIT_ROUNDS) {
      float value = 0.0;
      if (hidden >= begin && hidden < end) {
        const float gate = norm_factor * take_sum(slot, GATE_UP_SLICES, id), up = norm_factor * take_sum(slot + 1u, GATE_UP_SLICES, id);
        value = activation(gate, GELU) * up;
      }
      set_input(32u * OWN + hidden - begin / 32u * 32u, value);
    }
  }
}

#include "lib/persistent_attention.glsl"

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
  float best = MINUS_INFINITY;
  uint best_id = 0xffffffffu;
  for (uint i = 0u; i < CEIL(4u * HEAD_ITEMS, LOCAL); i++) {
    const uint row = result_row(i);
    if (id + i * LOCAL < 4u * HEAD_ITEMS && row < VOCABULARY) {
      const float logit = norm_factor * take_sum((id + i * LOCAL) / 4u, HEAD_SLICES, id);
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
  // All have read the last sums.
  for (uint i = ATTN_OUT_SUMS + id; i < MAIL_END; i += LOCAL) atomicStore(mail[i], uint64_t(0), gl_ScopeDevice, 0, 0);
  choose(best, best_id);
  if (id == 0u && failed != 0u) steps[WISP_STEP_FAILED] = 1u;
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
  for (uint i = id; i < INPUTS; i += LOCAL) inputs[i] = vec4(0.0);  // what pads a last block
  [[unroll]] for (uint n = 0u; n < STREAM; n++) ask(n, STREAM_END, FIRST, FIRST, false);
  const uint splits = split_count(position + 1u);
  const uint turn = ROPE + position * ROPE_STRIDE + result_row(0u) % HEAD_SIZE / 2u * 2u;
  const vec2 angle = vec2(data[turn], data[turn + 1u]);
  float attn_norm[WISP_P_SHARE], ffn_norm[WISP_P_SHARE];
  take_norm(FIRST + ATTN_NORM, attn_norm);
  take_norm(FIRST + FFN_NORM, ffn_norm);
  embed(tokens[position]);
  [[unroll]] for (uint i = 0u; i < WISP_P_SHARE; i++) attended[i] = attended_before[i] = fed[i] = 0.0;
  barrier();

  for (uint block = 0u; block < BLOCKS; block++) {
    const uint window = FIRST + block / REPEAT * STRIDE;
    const uint next = FIRST + (block + 1u) / REPEAT * STRIDE;
    const bool last = block + 1u == BLOCKS, load_next = !last && (block + 1u) % REPEAT == 0u;
    const bool more = STREAM < STREAM_UNITS ? !last : load_next;  // a block that is held whole stays for its next execution
    mailbox = block % 2u * MAILBOX;
    tag = serial * (BLOCKS + 1u) + block + 1u;

    if (block > 0u) receive_sums(DOWN_SUMS, FEEDERS * block, fed);
    stage_normed(attn_norm);
    MEET
    if (load_next) take_norm(next + ATTN_NORM, attn_norm);
    load_attention(block, position + 1u, splits);
    find_norm_factor();
    run_qkv(window, next, more);
    barrier();
    finish_qkv(block, position, window, angle);

    attention(block, position + 1u, splits);
    MEET
    run_attn_out(block, window, next, more);

    attended_before = attended;
    receive_sums(ATTN_OUT_SUMS + block % 2u * SUMS, HEADS * (block / 2u + 1u), attended);
    stage_normed(ffn_norm);
    MEET
    if (load_next) take_norm(next + FFN_NORM, ffn_norm);
    find_norm_factor();
    run_gate_up(window, next, more);
    barrier();
    finish_gate_up();
    barrier();
    run_down(window, next, more);
    [[unroll]] for (uint n = STREAM_UNITS; n < STREAM_END; n++) ask(n + STREAM, DOWN_BEGIN, window, next, more);
  }

  float final_norm[WISP_P_SHARE];
  take_norm(HEAD + FINAL_NORM, final_norm);
  ask_head(0u);
  receive_sums(DOWN_SUMS, FEEDERS * BLOCKS, fed);
  stage_normed(final_norm);
  MEET
  find_norm_factor();
  run_head();
  barrier();
  tag = serial * (BLOCKS + 1u) + BLOCKS + 1u;
  finish_head();
  barrier();
  if (group == 0u) next_token(position);
}
