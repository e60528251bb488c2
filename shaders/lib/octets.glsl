// SPDX-License-Identifier: Apache-2.0
// What becomes of finished sums where eight neighbouring rows of a column come together, the first of them a multiple of 8: the
// epilogue of the cooperative-matrix kernels, with vectors of 128 bits. Of the last octet of ROWS there may be only half.

layout(set = 0, binding = WISP_BIND_KV_VEC4) buffer KvVec4 { uvec4 kv4[]; };

// Apart from the inputs' readonly one: a compiler lets loads of what may be written wait at barriers.
layout(set = 0, binding = WISP_BIND_DATA_VEC4) buffer OutVec4 { vec4 out4[]; };

struct Octet { vec4 low, high; };

Octet times(float factor, Octet o) { return Octet(factor * o.low, factor * o.high); }

uint half_pair(vec2 v) { return packFloat2x16(f16vec2(v)); }
uvec4 half_octet(vec4 low, vec4 high) { return uvec4(half_pair(low.xy), half_pair(low.zw), half_pair(high.xy), half_pair(high.zw)); }

void store_octet(uint row, uint at, Octet o) {
  out4[at / 4u] = o.low;
  if (row + 4u < ROWS) out4[at / 4u + 1u] = o.high;
}

#ifdef QKV
void finish_octet(uint row, uint column, Octet o) {
  if (BIAS != 0u) {
    [[unroll]] for (uint i = 0u; i < 4u; i++) o.low[i] += bias(row + i);
    [[unroll]] for (uint i = 0u; i < 4u; i++) o.high[i] += bias(row + 4u + i);
  }
  if (RAW_K != 0u && row < Q_ROWS + KV_ROWS) {
    store_octet(row, column * Y_STRIDE + (row < Q_ROWS ? Y + row : RAW_K + row - Q_ROWS), o);
    return;
  }
  const uint position = steps[WISP_STEP_POSITION] + column;
  if (row < Q_ROWS + KV_ROWS) {
    const uint at = (ROPE + position * ROPE_STRIDE + row % HEAD_SIZE) / 4u;
    const Octet turns = Octet(data4[at], data4[at + 1u]);
    o.low = vec4(turned_pair(row, o.low.xy, turns.low.xy), turned_pair(row, o.low.zw, turns.low.zw));
    o.high = vec4(turned_pair(row, o.high.xy, turns.high.xy), turned_pair(row, o.high.zw, turns.high.zw));
  }
  if (row < Q_ROWS) {
    store_octet(row, Y + column * Y_STRIDE + row, o);
  } else if (KV_TYPE == KV_Q8_0) {
    store_octet(row, STAGED + column * 2u * KV_ROWS + (row - Q_ROWS), o);
  } else {
    const uint element = position * 2u * KV_ROWS + (row - Q_ROWS);
    if (KV_TYPE == KV_F32) {
      kv4[element / 4u] = floatBitsToUint(o.low);
      kv4[element / 4u + 1u] = floatBitsToUint(o.high);
    } else {
      kv4[element / 8u] = uvec4(pack_half(o.low.xy), pack_half(o.low.zw), pack_half(o.high.xy), pack_half(o.high.zw));
    }
  }
}
#endif

#ifdef GATE_UP
layout(constant_id = WISP_C_OUT_FACTOR) const float OUT_FACTOR = 0.0;

vec4 activated(vec4 gate, vec4 up) {
  return vec4(activation(gate.x, GELU), activation(gate.y, GELU), activation(gate.z, GELU), activation(gate.w, GELU)) * up;
}

// OUT_FACTOR: results are the next op's inputs, in f16.
void finish_octet(uint row, uint column, Octet gate, Octet up) {
  Octet o = Octet(activated(gate.low, up.low), activated(gate.high, up.high));
  if (OUT_FACTOR == 0.0) {
    store_octet(row, Y + column * Y_STRIDE + row, o);
    return;
  }
  const float most = 65504.0;
  o = times(1.0 / OUT_FACTOR, o);
  const uvec4 halves = half_octet(clamp(o.low, -most, most), clamp(o.high, -most, most));
  out4[(Y + column * Y_STRIDE + row / 2u) / 4u] = uintBitsToFloat(halves);
}
#endif

#ifdef RESIDUAL
// What is added to: of ROWS' last half octet only the low half is there.
Octet load_before(uint row, uint column) {
  if (ADD == 0u) return Octet(vec4(0.0), vec4(0.0));
  const uint at = (Y + column * Y_STRIDE + row) / 4u;
  return Octet(out4[at], row + 4u < ROWS ? out4[at + 1u] : vec4(0.0));
}
void finish_octet(uint row, uint column, Octet o, Octet before) {
  store_octet(row, Y + column * Y_STRIDE + row, Octet(before.low + o.low, before.high + o.high));
}
#endif
