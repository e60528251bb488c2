// SPDX-License-Identifier: Apache-2.0
// SiLU, or GELU with tanh written by exp: that of a large argument must not become infinity / infinity.

float activation(float x, uint gelu) {
  if (gelu == 0u) return x / (1.0 + exp(-x));
  return x / (1.0 + exp(-1.5957691216 * (x + 0.044715 * x * x * x)));  // (1 + tanh(t)) / 2 = 1 / (1 + exp(-2t))
}
