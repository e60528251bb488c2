// SPDX-License-Identifier: Apache-2.0
// persistent.comp: what workgroups send each other. id, tag, failed, mail are the including file's.

void send(uint slot, float value) {
  const uint64_t word = (uint64_t(tag) << 32) | uint64_t(floatBitsToUint(value));
  atomicStore(mail[slot], word, gl_ScopeDevice, 0, 0);
}

bool look(uint slot, uint expected, out float value) {
  const uint64_t word = atomicLoad(mail[slot], gl_ScopeDevice, 0, 0);
  value = uintBitsToFloat(uint(word));
  return uint(word >> 32) == expected;
}

float receive_one(uint slot) {
  float value;
  bool waiting = true;
  for (uint spin = 0u; waiting && spin < SPINS; spin++) waiting = !look(slot, tag, value);
  if (waiting) failed = 1u;
  return value;
}

// ---- Sums: 24 bits before the point, 32 behind it; in the lowest 8 bits, how many have been added ----

// Four have a cache line to themselves: what many workgroups add to one line, and read of it, takes turns.
uint sum_slot(uint first, uint element) { return first + element / 4u * 16u + element % 4u; }

void add_to_sum(uint first, uint element, float value) {
  const int64_t fixed_point = int64_t(clamp(value, -8388607.0, 8388607.0) * 4294967296.0);
  atomicAdd(mail[sum_slot(first, element)], uint64_t(fixed_point) << 8 | uint64_t(1), gl_ScopeDevice, 0, 0);
}

// This invocation's elements of the residual stream, when `count` have been added to each.
void receive_sums(uint first, uint count, out float values[WISP_P_SHARE]) {
  uint64_t words[WISP_P_SHARE];
  bool waiting = true;
  for (uint spin = 0u; waiting && spin < SPINS; spin++) {
    waiting = false;
    [[unroll]] for (uint i = 0u; i < WISP_P_SHARE; i++) {
      if (i * LOCAL < WIDTH && id + i * LOCAL < WIDTH) {
        words[i] = atomicLoad(mail[sum_slot(first, id + i * LOCAL)], gl_ScopeDevice, 0, 0);
        waiting = ((uint(words[i]) ^ count) & 255u) != 0u || waiting;
      }
    }
  }
  if (waiting) failed = 1u;
  [[unroll]] for (uint i = 0u; i < WISP_P_SHARE; i++) {
    if (i * LOCAL < WIDTH && id + i * LOCAL < WIDTH) values[i] = float(int64_t(words[i]) >> 8) * 2.3283064365386963e-10;
  }
}
