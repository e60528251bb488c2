#version 450
// SPDX-License-Identifier: Apache-2.0
// The next token drawn at random from the logits of column push.first_column, exactly as wisp_sampler_pick does
// (engine/session/sampler.h has the definition); then the step moves on as behind sample.comp. One workgroup.
//
// Top-k and top-p each look for the rank at which a sum, of ones or of weights, reaches a target. A rank is a key of 96 bits
// (steps, distance, id), found 8 bits at a time from the top (radix selection): each round counts and weighs the candidates by their
// next 8 bits, then takes the bin that reaches the target, until one candidate is left in it. The first round leaves so few that they fit
// shared memory, or else all rounds go through the logits. Sums of integers: the order of atomics does not matter.
// The draw is a race over the logits up to the last rank: each invocation has a first among its own, atomics take the first of them.
#extension GL_GOOGLE_include_directive : require
#include "lib/bindings.glsl"
#include "shared/draw.h"

layout(constant_id = WISP_C_COLS) const uint COLS = 4;  // logits of a column
layout(constant_id = WISP_C_X) const uint X = 0;
layout(constant_id = WISP_C_X_STRIDE) const uint X_STRIDE = 4;

layout(set = 0, binding = WISP_BIND_DATA) readonly buffer Data { float data[]; };
layout(set = 0, binding = WISP_BIND_DATA_VEC4) readonly buffer DataVec4 { vec4 data4[]; };

const uint BINS = WISP_DRAW_BINS;  // one an invocation, which may be more
const uint LISTED = 1024u;
const uint VECTORS = (COLS + 3u) / 4u;
const uint TOP_K = 0u, TOP_P = 1u, FILTERS = 2u;

shared uint counts[BINS], masses[BINS], carries[BINS];  // of the candidates in a bin, then in all bins up to it; mass in two words
shared uint members[BINS];                              // a candidate's id: the one of a bin that has no other
shared uvec2 list[LISTED];                              // (distance, id)
shared uint listed, chosen, greatest_key, first_arrival, winner;

float greatest, scale;
bool from_list = false, gathering = false;
uint last_distance = 0xffffffffu, last_id = 0xffffffffu;  // candidates up to this one in rank are left
// The bits of the key that are known, and which 8 are next.
uint key_steps, key_distance, key_id, round;

uint high_product(uint a, uint b) {
  uint high, low;
  umulExtended(a, b, high, low);
  return high;
}

uvec2 add(uvec2 a, uvec2 b) {  // 64 bits, the lower word first
  uint carry;
  const uint low = uaddCarry(a.x, b.x, carry);
  return uvec2(low, a.y + b.y + carry);
}

uvec2 subtract(uvec2 a, uvec2 b) {
  uint borrow;
  const uint low = usubBorrow(a.x, b.x, borrow);
  return uvec2(low, a.y - b.y - borrow);
}

bool at_least(uvec2 a, uvec2 b) { return a.y > b.y || (a.y == b.y && a.x >= b.x); }

// floor(mass * share / 2^32); remainder: of the quotient, of 2^32.
uvec2 share_of(uvec2 mass, uint share, out uint remainder) {
  uint high, low, upper_high, upper_low;
  umulExtended(mass.x, share, high, low);
  umulExtended(mass.y, share, upper_high, upper_low);
  remainder = low;
  return add(uvec2(high, 0u), uvec2(upper_low, upper_high));
}

uint weight(uint steps_away) {
  const uint whole = (steps_away + (WISP_DRAW_OCTAVE - 1u)) / WISP_DRAW_OCTAVE;
  const uint y = (whole * WISP_DRAW_OCTAVE - steps_away) << 8;
  uint sum = WISP_DRAW_EXP2_5;
  sum = WISP_DRAW_EXP2_4 + high_product(sum, y);
  sum = WISP_DRAW_EXP2_3 + high_product(sum, y);
  sum = WISP_DRAW_EXP2_2 + high_product(sum, y);
  sum = WISP_DRAW_EXP2_1 + high_product(sum, y);
  return (WISP_DRAW_ONE + (high_product(sum, y) >> 1)) >> whole;
}

bool is_nan(float value) { return (floatBitsToUint(value) & 0x7fffffffu) > 0x7f800000u; }

float octaves_of(uint distance) {
  precise const float octaves = uintBitsToFloat(distance) * scale;
  return octaves;
}

// Float bits of a logit's distance; false: no candidate. Distances are not negative, so their bits compare as they do, and those of
// infinity and NaN are greater.
bool measure(float logit, out uint distance) {
  precise float away = logit == greatest ? 0.0 : greatest - logit;
  if (away < uintBitsToFloat(0x0d800000u)) away = 0.0;  // 2^-100
  distance = floatBitsToUint(away);
  return !is_nan(logit) && floatBitsToUint(octaves_of(distance)) <= floatBitsToUint(float(WISP_DRAW_FARTHEST / WISP_DRAW_OCTAVE));
}

bool left(uint distance, uint token) { return distance < last_distance || (distance == last_distance && token <= last_id); }

uint steps_of(uint distance) { return uint(octaves_of(distance) * float(WISP_DRAW_OCTAVE)); }

void visit(uint distance, uint token) {
  if (!left(distance, token)) return;
  const uint steps_away = steps_of(distance);
  if (gathering) {
    if (steps_away << 3 >> 24 > chosen) return;
    list[atomicAdd(listed, 1u)] = uvec2(distance, token);
    return;
  }
  if ((round >= 4u && steps_away << 3 != key_steps) || (round >= 8u && distance != key_distance)) return;
  const uint shift = 24u - 8u * (round % 4u);
  const uint word = round < 4u ? steps_away << 3 : round < 8u ? distance : token;
  const uint key = round < 4u ? key_steps : round < 8u ? key_distance : key_id;
  if (word >> shift >> 8 != key >> shift >> 8) return;
  const uint bin = word >> shift & 255u, mass = weight(steps_away);
  atomicAdd(counts[bin], 1u);
  if (atomicAdd(masses[bin], mass) > 0xffffffffu - mass) atomicAdd(carries[bin], 1u);
  members[bin] = token;
}

float logit_of(uint token) { return data[X + push.first_column * X_STRIDE + token]; }

// Four logits of the column, or the last four.
vec4 load(uint vector) { return data4[(X + push.first_column * X_STRIDE) / 4u + min(vector, VECTORS - 1u)]; }

void visit_all() {
  const uint id = gl_LocalInvocationID.x;
  if (from_list) {
    for (uint i = id; i < listed; i += LOCAL) visit(list[i].x, list[i].y);
    return;
  }
  vec4 logits = load(id), second = load(id + LOCAL), third;  // asked for before they are used
  for (uint i = id; i < VECTORS; i += LOCAL) {
    third = load(i + 2u * LOCAL);
    [[unroll]] for (uint j = 0u; j < 4u; j++) {
      uint distance;
      if (4u * i + j < COLS && measure(logits[j], distance)) visit(distance, 4u * i + j);
    }
    logits = second;
    second = third;
  }
}

// In the order of the values as integers: NaN is not let in.
uint ordered(float logit) {
  const uint bits = floatBitsToUint(logit);
  return is_nan(logit) ? 0u : bits >> 31 != 0u ? ~bits : bits | 0x80000000u;
}

void find_greatest() {
  uint key = 0u;
  for (uint i = gl_LocalInvocationID.x; i < VECTORS; i += 4u * LOCAL) {
    vec4 logits[4];
    [[unroll]] for (uint k = 0u; k < 4u; k++) logits[k] = load(i + k * LOCAL);
    [[unroll]] for (uint k = 0u; k < 4u; k++)
      [[unroll]] for (uint j = 0u; j < 4u; j++)
        if (4u * (i + k * LOCAL) + j < COLS) key = max(key, ordered(logits[k][j]));
  }
  if (gl_LocalInvocationID.x == 0u) greatest_key = 0u;
  barrier();
  atomicMax(greatest_key, key);
  barrier();
  key = greatest_key;
  greatest = uintBitsToFloat(key >> 31 != 0u ? key & 0x7fffffffu : ~key);
}

uvec2 mass_up_to(uint bin) { return uvec2(masses[bin], carries[bin]); }

void sum_bins() {
  const uint id = gl_LocalInvocationID.x;
  for (uint width = 1u; width < BINS; width <<= 1) {
    const bool adds = id >= width && id < BINS;
    const uint count = adds ? counts[id - width] : 0u;
    const uvec2 mass = adds ? mass_up_to(id - width) : uvec2(0u);
    barrier();
    if (adds) {
      const uvec2 sum = add(mass_up_to(id), mass);
      counts[id] += count;
      masses[id] = sum.x;
      carries[id] = sum.y;
    }
    barrier();
  }
}

// What the sum up to the rank looked for reaches, of all that is left: a count, or a mass.
uvec2 target_of(uint stage) {
  const uvec2 all = mass_up_to(BINS - 1u);
  uint remainder;
  if (stage == TOP_K) return uvec2(min(steps[WISP_STEP_TOP_K], counts[BINS - 1u]), 0u);
  const uvec2 part = share_of(all, steps[WISP_STEP_TOP_P], remainder);
  return remainder != 0u ? add(part, uvec2(1u, 0u)) : part;
}

uvec2 sum_up_to(uint bin, bool of_counts) { return of_counts ? uvec2(counts[bin], 0u) : mass_up_to(bin); }

// The id of the rank that a stage looks for.
uint search(uint stage) {
  const uint id = gl_LocalInvocationID.x;
  const bool of_counts = stage == TOP_K;
  uvec2 target = uvec2(0u);
  uint member = 0u, inside = 0u;
  key_steps = key_distance = key_id = round = 0u;
  while (inside != 1u || gathering) {
    if (id < BINS) counts[id] = masses[id] = carries[id] = 0u;
    if (id == 0u && !from_list) listed = 0u;
    barrier();
    visit_all();
    barrier();
    if (gathering) {
      gathering = false;
      from_list = true;
      continue;
    }
    sum_bins();
    if (round == 0u) target = target_of(stage);
    if (id < BINS && at_least(sum_up_to(id, of_counts), target) &&
        (id == 0u || !at_least(sum_up_to(id - 1u, of_counts), target)))
      chosen = id;
    barrier();
    const uint bin = chosen, up_to = counts[bin], before = bin > 0u ? counts[bin - 1u] : 0u;
    if (bin > 0u) target = subtract(target, sum_up_to(bin - 1u, of_counts));
    member = members[bin];
    inside = up_to - before;
    gathering = round == 0u && !from_list && up_to <= LISTED;
    const uint bits = bin << (24u - 8u * (round % 4u));
    if (round < 4u) key_steps |= bits;
    else if (round < 8u) key_distance |= bits;
    else key_id |= bits;
    round++;
    barrier();
  }
  return member;
}

// Philox 4x32-10 for the draw's number, four ids and the seed (engine/session/philox.h).
uvec4 random_words(uint group) {
  uvec4 c = uvec4(steps[WISP_STEP_DRAWN], steps[WISP_STEP_DRAWN + 1], group, 0u);
  uvec2 key = uvec2(steps[WISP_STEP_SEED], steps[WISP_STEP_SEED + 1]);
  for (uint i = 0u; i < 10u; i++) {
    uvec2 high, low;
    umulExtended(uvec2(0xD2511F53u, 0xCD9E8D57u), c.xz, high, low);
    c = uvec4(high.y ^ c.y ^ key.x, low.y, high.x ^ c.w ^ key.y, low.x);
    key += uvec2(0x9E3779B9u, 0xBB67AE85u);
  }
  return c;
}

uint log2_of(uint x) {  // as engine/session/race.h
  const uint whole = uint(findMSB(x)), y = x << (31u - whole) << 1;
  uint sum = WISP_DRAW_LOG2_7;
  sum = WISP_DRAW_LOG2_6 - high_product(sum, y);
  sum = WISP_DRAW_LOG2_5 - high_product(sum, y);
  sum = WISP_DRAW_LOG2_4 - high_product(sum, y);
  sum = WISP_DRAW_LOG2_3 - high_product(sum, y);
  sum = WISP_DRAW_LOG2_2 - high_product(sum, y);
  sum = WISP_DRAW_LOG2_1 - high_product(sum, y);
  return whole * WISP_DRAW_OCTAVE + (high_product(sum, y) >> 7);
}

uint arrival_of(uint word) {
  const uint u = word | 1u, t = u << 1;
  if (u < 0x80000000u) return log2_of(32u * WISP_DRAW_OCTAVE - log2_of(u)) + 8u * WISP_DRAW_OCTAVE;
  uint sum = WISP_DRAW_SLOPE_5;
  sum = WISP_DRAW_SLOPE_4 - high_product(sum, t);
  sum = WISP_DRAW_SLOPE_3 - high_product(sum, t);
  sum = WISP_DRAW_SLOPE_2 - high_product(sum, t);
  sum = WISP_DRAW_SLOPE_1 - high_product(sum, t);
  sum = WISP_DRAW_SLOPE_0 - high_product(sum, t);
  return log2_of(0u - u) + (sum >> 7);
}

uint earliest(uint word) { return uint(findMSB(0u - (word | 1u))) * WISP_DRAW_OCTAVE; }

// The id that wins; of one invocation's own, the lowest comes first.
uint race() {
  const uint farthest = steps[WISP_STEP_FARTHEST], out_of_reach = 0xffffffffu;
  uint first = 0xffffffffu, token = 0u, bound = 0xffffffffu;
  if (gl_LocalInvocationID.x == 0u) first_arrival = winner = 0xffffffffu;
  barrier();
  vec4 logits = load(gl_LocalInvocationID.x), next;
  for (uint begin = 0u; begin < VECTORS; begin += LOCAL) {
    const uint i = begin + gl_LocalInvocationID.x;
    next = load(i + LOCAL);
    uvec4 away;
    bool any = false;
    [[unroll]] for (uint j = 0u; j < 4u; j++) {
      uint distance;
      const bool runs = 4u * i + j < COLS && measure(logits[j], distance) && left(distance, 4u * i + j);
      away[j] = runs ? steps_of(distance) : out_of_reach;
      any = any || away[j] <= farthest;
    }
    logits = next;
    if (any) {
      uvec4 words = random_words(i);
      for (uint j = 0u; j < 4u; j++, away = away.yzwx, words = words.yzwx) {  // not by an index: vectors stay in registers
        if (away.x > farthest || away.x + earliest(words.x) > min(first, bound)) continue;  // most: saves the polynomials
        const uint arrival = away.x + arrival_of(words.x);
        if (arrival < first) {
          first = arrival;
          token = 4u * i + j;
        }
      }
    }
    if (begin == 0u) {  // from here on what all have seen bounds each
      atomicMin(first_arrival, first);
      barrier();
      bound = first_arrival;
      barrier();
    }
  }
  atomicMin(first_arrival, first);
  barrier();
  if (first == first_arrival) atomicMin(winner, token);
  barrier();
  return winner;
}

void main() {
  if (steps[WISP_STEP_FAILED] != 0u) return;  // the persistent path's: there are no logits
  uint token = 0u;
  scale = uintBitsToFloat(steps[WISP_STEP_SCALE]);
  find_greatest();
  if (greatest_key > ordered(MINUS_INFINITY)) {
    for (uint stage = TOP_K; stage < FILTERS; stage++) {
      if (steps[stage == TOP_K ? WISP_STEP_TOP_K : WISP_STEP_TOP_P] == 0u) continue;
      last_id = search(stage);
      measure(logit_of(last_id), last_distance);
    }
    token = race();
  }
  barrier();
  if (gl_LocalInvocationID.x == 0u) {
    const uint next = steps[WISP_STEP_POSITION] + (push.moved == 1u ? 0u : steps[WISP_STEP_COUNT]);
    tokens[next] = token;
    steps[WISP_STEP_POSITION] = next;
    steps[WISP_STEP_COUNT] = 1u;
    const uvec2 drawn = add(uvec2(steps[WISP_STEP_DRAWN], steps[WISP_STEP_DRAWN + 1]), uvec2(1u, 0u));
    steps[WISP_STEP_DRAWN] = drawn.x;
    steps[WISP_STEP_DRAWN + 1] = drawn.y;
  }
}
