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

// In a wide model all workgroups' looks for all their mail would fill the bandwidth of the device's cache.
const bool LOOKS_CROWD = FFN_WIDTH > 4u * LOCAL;

// Elements id + i * LOCAL of the count mails from slot first on; where looks crowd and there are many, the first of them alone at first.
void receive(uint first, uint count, uint expected, out float values[WISP_P_SHARE]) {
  bool waiting = LOOKS_CROWD && count > 2u * LOCAL;
  for (uint spin = 0u; waiting && spin < SPINS; spin++) waiting = !look(first + id, expected, values[0]);
  waiting = true;
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
