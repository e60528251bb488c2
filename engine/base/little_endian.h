/* SPDX-License-Identifier: Apache-2.0
 * Unaligned little-endian loads and stores; compilers turn each into one instruction. */
#ifndef WISP_BASE_LITTLE_ENDIAN_H
#define WISP_BASE_LITTLE_ENDIAN_H

#include <stdint.h>
#include <string.h>

static inline uint16_t wisp_load_u16(const uint8_t *p) {
  return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t wisp_load_u32(const uint8_t *p) {
  return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t wisp_load_u64(const uint8_t *p) {
  return wisp_load_u32(p) | (uint64_t)wisp_load_u32(p + 4) << 32;
}

static inline void wisp_store_u16(uint8_t *p, uint16_t value) {
  p[0] = (uint8_t)value;
  p[1] = (uint8_t)(value >> 8);
}

static inline void wisp_store_u32(uint8_t *p, uint32_t value) {
  wisp_store_u16(p, (uint16_t)value);
  wisp_store_u16(p + 2, (uint16_t)(value >> 16));
}

static inline void wisp_store_u64(uint8_t *p, uint64_t value) {
  wisp_store_u32(p, (uint32_t)value);
  wisp_store_u32(p + 4, (uint32_t)(value >> 32));
}

static inline float wisp_float_of_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static inline uint32_t wisp_bits_of_float(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

static inline float wisp_load_f32(const uint8_t *p) {
  return wisp_float_of_bits(wisp_load_u32(p));
}

static inline double wisp_load_f64(const uint8_t *p) {
  uint64_t bits = wisp_load_u64(p);
  double value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

#endif
