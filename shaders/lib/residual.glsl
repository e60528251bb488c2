// SPDX-License-Identifier: Apache-2.0
// The residual stream of the fused kernels: int64 with 32 bits behind the point, [2][width]. Integers add up to the same sum in
// any order, so that every workgroup can add its share by atomics and the result is deterministic. |x| < 2^31, error 2^-33 an addend.
#extension GL_EXT_shader_explicit_arithmetic_types_int64 : require
#extension GL_EXT_shader_atomic_int64 : require

layout(set = 0, binding = WISP_BIND_RESIDUAL) buffer Residual { uint64_t residual[]; };

// Both ways through the magnitude: beside the -1 above them, a small negative number's low bits would be lost.
uint64_t to_fixed(float value) {
  const float magnitude = min(abs(value), 2147483520.0), whole = floor(magnitude);
  const uint64_t fixed_point = packUint2x32(uvec2(uint((magnitude - whole) * 4294967296.0), uint(whole)));
  return value < 0.0 ? uint64_t(0) - fixed_point : fixed_point;
}

float from_fixed(uint64_t fixed_point) {
  const bool negative = int64_t(fixed_point) < int64_t(0);
  const uvec2 words = unpackUint2x32(negative ? uint64_t(0) - fixed_point : fixed_point);
  const float magnitude = float(words.y) + float(words.x) * 2.3283064365386963e-10;
  return negative ? -magnitude : magnitude;
}
