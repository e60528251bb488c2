// SPDX-License-Identifier: Apache-2.0
// Rows of the KV cache, as in engine/model/kv.h. KV_HEADS and HEAD_SIZE are declared before.

layout(constant_id = WISP_C_KV_TYPE) const uint KV_TYPE = 0;

const uint KV_F16 = 0u, KV_F32 = 1u, KV_Q8_0 = 2u;  // wisp_kv_type
const uint KV_WIDTH = KV_HEADS * HEAD_SIZE;
// In words: where a row of q8_0 has its scales, two a word, and where they end; a row.
const uint KV_SCALES = KV_WIDTH / 2u, KV_SCALES_END = KV_SCALES + KV_WIDTH / 32u;
const uint KV_ROW = KV_TYPE == KV_F32 ? 2u * KV_WIDTH : KV_TYPE == KV_F16 ? KV_WIDTH : (KV_SCALES_END + 3u) / 4u * 4u;
