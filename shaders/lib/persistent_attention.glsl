// SPDX-License-Identifier: Apache-2.0
// persistent.comp: attention, a workgroup taking one head, and all positions or a split of them.

const uint PART_COUNT = HEAD_SIZE / 8u;      // invocations that share a position
const uint POSITION_TEAMS = LOCAL / PART_COUNT;

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

Row staged_row(uint first) { return Row(token_rows[first / 4u], token_rows[first / 4u + 1u]); }

uint split_count(uint positions) { return clamp(CEIL(positions, SPLIT), 1u, SPLITS); }

RawRow raw_k[AHEAD], raw_v[AHEAD];  // of the next AHEAD positions of this invocation's team

// Where the positions of a split begin and end.
uvec2 split_range(uint split, uint positions, uint splits) {
  const uint each = CEIL(positions, splits), begin = split * each;
  return uvec2(begin, min(begin + each, positions));
}

// The split of this workgroup; splits or more: none. Few positions are taken by all of a head's workgroups alike.
uint own_split(uint splits) {
  const uint rank = group / HEADS;
  return rank >= PER_HEAD ? SPLITS : splits == 1u ? 0u : rank;
}

void load_rows(uint block, uint head, uint first, uint positions) {
  const uint element = head / (HEADS / KV_HEADS) * HEAD_SIZE + id % PART_COUNT * 8u;
  [[unroll]] for (uint i = 0u; i < AHEAD; i++) {
    const uint row = min(first + i * POSITION_TEAMS + id / PART_COUNT, positions - 1u) * 2u * KV_ROWS + element;
    raw_k[i] = load_row(block, row);
    raw_v[i] = load_row(block, row + KV_ROWS);
  }
}

// Asks for the first rows of this workgroup's split: the KV slot of earlier positions waits for nothing.
void load_attention(uint block, uint positions, uint splits) {
  const uint split = own_split(splits);
  if (split < splits) load_rows(block, group % HEADS, split_range(split, positions, splits).x, positions);
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

void set_attended(uint element, float value) { set_input(32u * OWN + group % HEADS * HEAD_SIZE % 32u + element, value); }

void attend(uint block, uint positions, uint splits, uint split) {
  const uint head = group % HEADS, key = head / (HEADS / KV_HEADS) * HEAD_SIZE;
  const uvec2 range = split_range(split, positions, splits);
  // The head's query, and this token's key and value.
  for (uint i = id; i < 3u * HEAD_SIZE; i += LOCAL) {
    const uint which = i / HEAD_SIZE, row = which == 0u ? head * HEAD_SIZE : Q_ROWS + (which - 1u) * KV_ROWS + key;
    const float value = receive_one(mailbox + QKV_MAIL + row + i % HEAD_SIZE);
    token_rows[i / 4u][i % 4u] = which == 0u ? ATTENTION_SCALE * value : stored(value);
  }
  barrier();
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
  barrier();
  for (uint element = id; element < HEAD_SIZE; element += LOCAL) {
    float maximum = MINUS_INFINITY, total = 0.0, sum = 0.0;
    [[unroll]] for (uint i = 0u; i < SUBGROUPS; i++) maximum = max(maximum, softmaxes[i].x);
    [[unroll]] for (uint i = 0u; i < SUBGROUPS; i++) {
      const float weight = exp(softmaxes[i].x - maximum);
      total += weight * softmaxes[i].y;
      sum += weight * weighted[i * (HEAD_SIZE / 4u) + element / 4u][element % 4u];
    }
    if (splits == 1u) {
      set_attended(element, sum / total);
    } else {
      send(mailbox + SPLIT_MAIL + split * Q_ROWS + head * HEAD_SIZE + element, sum);
      if (element == 0u) {
        send(mailbox + SOFTMAX_MAIL + 2u * (split * HEADS + head), maximum);
        send(mailbox + SOFTMAX_MAIL + 2u * (split * HEADS + head) + 1u, total);
      }
    }
  }
}

// Element of the head's result out of its splits, 4 at a time.
float merge_splits(uint element, uint splits) {
  const uint head = group % HEADS;
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
        waiting = !look(mailbox + SPLIT_MAIL + split * Q_ROWS + head * HEAD_SIZE + element, tag, sums[i]) || waiting;
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

// The results of this workgroup's head, to its own inputs.
void attention(uint block, uint positions, uint splits) {
  const uint split = own_split(splits);
  if (split < splits) attend(block, positions, splits, split);
  if (splits > 1u && group / HEADS < PER_HEAD) {
    for (uint element = id; element < HEAD_SIZE; element += LOCAL) set_attended(element, merge_splits(element, splits));
  }
}
