/* SPDX-License-Identifier: Apache-2.0
 * Eight floats on NEON, as two vectors of four: what vector_kernels.h is written in. */
#ifndef WISP_CPU_VECTOR_NEON_H
#define WISP_CPU_VECTOR_NEON_H

#include <arm_neon.h>
#include <stdint.h>

typedef struct f8 {
  float32x4_t low, high;
} f8;

static inline f8 f8_set(float x) {
  return (f8){vdupq_n_f32(x), vdupq_n_f32(x)};
}
static inline f8 f8_set_f16(uint16_t half) {
  const float32x4_t wide = vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(half)));
  return (f8){wide, wide};
}
static inline f8 f8_load(const float *p) {
  return (f8){vld1q_f32(p), vld1q_f32(p + 4)};
}
static inline f8 f8_load_f16(const uint16_t *p) {
  const float16x8_t halves = vreinterpretq_f16_u16(vld1q_u16(p));
  return (f8){vcvt_f32_f16(vget_low_f16(halves)), vcvt_high_f32_f16(halves)};
}
static inline f8 f8_load_bf16(const uint16_t *p) {
  const uint16x8_t halves = vld1q_u16(p);
  return (f8){vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(halves), 16)),
              vreinterpretq_f32_u32(vshll_n_u16(vget_high_u16(halves), 16))};
}
static inline f8 f8_load_i8(const int8_t *p) {
  const int16x8_t wide = vmovl_s8(vld1_s8(p));
  return (f8){vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide))), vcvtq_f32_s32(vmovl_high_s16(wide))};
}
static inline void f8_store(float *p, f8 a) {
  vst1q_f32(p, a.low);
  vst1q_f32(p + 4, a.high);
}
static inline void f8_store_f16(uint16_t *p, f8 a) {
  vst1q_u16(p, vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(a.low), a.high)));
}
/* Whole numbers within 16 bits. */
static inline void f8_store_i16(int16_t *p, f8 a) {
  vst1q_s16(p, vqmovn_high_s32(vqmovn_s32(vcvtnq_s32_f32(a.low)), vcvtnq_s32_f32(a.high)));
}
/* Whole numbers within 8 bits. */
static inline void f8_store_i8(int8_t *p, f8 a) {
  vst1_s8(p, vqmovn_s16(vqmovn_high_s32(vqmovn_s32(vcvtnq_s32_f32(a.low)), vcvtnq_s32_f32(a.high))));
}
static inline f8 f8_add(f8 a, f8 b) {
  return (f8){vaddq_f32(a.low, b.low), vaddq_f32(a.high, b.high)};
}
static inline f8 f8_sub(f8 a, f8 b) {
  return (f8){vsubq_f32(a.low, b.low), vsubq_f32(a.high, b.high)};
}
static inline f8 f8_mul(f8 a, f8 b) {
  return (f8){vmulq_f32(a.low, b.low), vmulq_f32(a.high, b.high)};
}
static inline f8 f8_div(f8 a, f8 b) {
  return (f8){vdivq_f32(a.low, b.low), vdivq_f32(a.high, b.high)};
}
/* a * b + c, rounded once */
static inline f8 f8_fma(f8 a, f8 b, f8 c) {
  return (f8){vfmaq_f32(c.low, a.low, b.low), vfmaq_f32(c.high, a.high, b.high)};
}
static inline f8 f8_max(f8 a, f8 b) {
  return (f8){vmaxq_f32(a.low, b.low), vmaxq_f32(a.high, b.high)};
}
static inline f8 f8_min(f8 a, f8 b) {
  return (f8){vminq_f32(a.low, b.low), vminq_f32(a.high, b.high)};
}
static inline f8 f8_abs(f8 a) {
  return (f8){vabsq_f32(a.low), vabsq_f32(a.high)};
}
/* To the nearest whole number, ties to even. */
static inline f8 f8_round(f8 a) {
  return (f8){vrndnq_f32(a.low), vrndnq_f32(a.high)};
}
static inline float32x4_t f4_power_of_2(float32x4_t n) {
  return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127)), 23));
}
/* 2^n for whole n in [-126, 127] */
static inline f8 f8_power_of_2(f8 n) {
  return (f8){f4_power_of_2(n.low), f4_power_of_2(n.high)};
}
/* a0 a0 a2 a2 ..., a1 a1 a3 a3 ..., a1 a0 a3 a2 ... */
static inline f8 f8_even(f8 a) {
  return (f8){vtrn1q_f32(a.low, a.low), vtrn1q_f32(a.high, a.high)};
}
static inline f8 f8_odd(f8 a) {
  return (f8){vtrn2q_f32(a.low, a.low), vtrn2q_f32(a.high, a.high)};
}
static inline f8 f8_swap(f8 a) {
  return (f8){vrev64q_f32(a.low), vrev64q_f32(a.high)};
}
/* p[0..3] = the sums over the lanes of a, b, c, d, each in the same order. */
static inline void f8_store_sums(float *p, f8 a, f8 b, f8 c, f8 d) {
  const float32x4_t ab = vpaddq_f32(vaddq_f32(a.low, a.high), vaddq_f32(b.low, b.high));
  const float32x4_t cd = vpaddq_f32(vaddq_f32(c.low, c.high), vaddq_f32(d.low, d.high));
  vst1q_f32(p, vpaddq_f32(ab, cd));
}
static inline float f8_largest(f8 a) {
  return vmaxvq_f32(vmaxq_f32(a.low, a.high));
}
static inline float f8_sum(f8 a) {
  const float32x4_t pairs = vpaddq_f32(vaddq_f32(a.low, a.high), vaddq_f32(a.low, a.high));
  return vget_lane_f32(vpadd_f32(vget_low_f32(pairs), vget_low_f32(pairs)), 0);
}

#endif
