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
