/* SPDX-License-Identifier: Apache-2.0
 * Writing and checking states. A file is judged whole before a session is touched. */
#include "session/state.h"

#include <inttypes.h>
#include <string.h>

#include "base/hash.h"
#include "base/little_endian.h"

/* Offsets in the file, all numbers little-endian; behind the header ids, rows, and the sum of both. */
enum {
  AT_MAGIC = 0,
  AT_VERSION = 8,
  AT_KV_TYPE = 12,     /* wisp_kv_type */
  AT_FINGERPRINT = 16, /* wisp_model_fingerprint */
  AT_SLOTS = 24,
  AT_ROW_BYTES = 28, /* K and V of one token in one slot */
  AT_LENGTH = 32,    /* tokens */
  AT_ZERO = 36,
  AT_SUM = 40, /* wisp_hash of the header up to here */
  HEADER_BYTES = 48,
  SUM_BYTES = 8,
  VERSION = 1
};

static const uint8_t magic[8] = "wispkvs";

static const char *const kv_names[] = {[WISP_KV_F16] = "f16", [WISP_KV_F32] = "f32", [WISP_KV_Q8_0] = "q8_0"};

/* The header of a state of this timeline. */
static void make_header(wisp_engine *engine, const wisp_timeline *timeline, uint8_t *header) {
  uint64_t fingerprint = engine->fingerprint;
  if (!fingerprint) engine->fingerprint = fingerprint = wisp_model_fingerprint(&engine->model);
  memset(header, 0, HEADER_BYTES);
  memcpy(header + AT_MAGIC, magic, sizeof magic);
  wisp_store_u32(header + AT_VERSION, VERSION);
  wisp_store_u32(header + AT_KV_TYPE, timeline->kv_type);
  wisp_store_u64(header + AT_FINGERPRINT, fingerprint);
  wisp_store_u32(header + AT_SLOTS, engine->plan.kv_slots);
  wisp_store_u32(header + AT_ROW_BYTES, (uint32_t)wisp_plan_kv_row_bytes(&engine->plan, timeline->kv_type));
  wisp_store_u32(header + AT_LENGTH, timeline->length);
  wisp_store_u64(header + AT_SUM, wisp_hash_bytes(header, AT_SUM));
}

/* ---- Writing ---- */

typedef struct summed_output {
  wisp_output_fn write;
  void *user;
  wisp_hash hash;
} summed_output;

static bool write_summed(void *user, const void *data, size_t size) {
  summed_output *out = user;
  wisp_hash_add(&out->hash, data, size);
  return out->write(out->user, data, size);
}

static bool write_ids(summed_output *out, const int32_t *ids, uint32_t count) {
  uint8_t bytes[1024];
  for (uint32_t done = 0; done < count;) {
    size_t size = 0;
    while (done < count && size < sizeof bytes) wisp_store_u32(bytes + size, (uint32_t)ids[done++]), size += 4;
    if (!write_summed(out, bytes, size)) return false;
  }
  return true;
}

static wisp_status write_state(wisp_engine *engine, wisp_timeline *timeline, const int32_t *ids, summed_output *out) {
  uint8_t header[HEADER_BYTES], sum[SUM_BYTES];
  make_header(engine, timeline, header);
  if (!out->write(out->user, header, sizeof header)) return WISP_ERROR_IO;
  wisp_hash_begin(&out->hash);
  if (!write_ids(out, ids, timeline->length)) return WISP_ERROR_IO;
  WISP_TRY(engine->executor->api->kv_read(timeline, write_summed, out));
  wisp_store_u64(sum, wisp_hash_end(&out->hash));
  return out->write(out->user, sum, sizeof sum) ? WISP_OK : WISP_ERROR_IO;
}

wisp_status wisp_state_save(wisp_engine *engine, wisp_timeline *timeline, const int32_t *ids, wisp_output_fn write,
                            void *user) {
  summed_output out = {.write = write, .user = user};
  const wisp_status status = write_state(engine, timeline, ids, &out);
  if (status == WISP_ERROR_IO)
    wisp_fail(&engine->host, status, "a session's state of %u tokens could not be written", timeline->length);
  return status;
}

/* ---- Reading ---- */

/* The header as far as it does not depend on the session. */
static wisp_status check_header(const wisp_host *host, const wisp_bytes *file) {
  const uint8_t *h = file->data;
  if (file->size < sizeof magic || memcmp(h, magic, sizeof magic))
    return wisp_fail(host, WISP_ERROR_FORMAT, "%s: is no saved session; name a file that was saved with Wisp", file->name);
  if (file->size < HEADER_BYTES)
    return wisp_fail(host, WISP_ERROR_FORMAT, "%s: is cut short: %" PRIu64 " bytes, the header alone has %d; save it again",
                     file->name, file->size, HEADER_BYTES);
  if (wisp_load_u32(h + AT_VERSION) != VERSION)
    return wisp_fail(host, WISP_ERROR_UNSUPPORTED, "%s: is of version %u, this build reads %d; save it again", file->name,
                     wisp_load_u32(h + AT_VERSION), VERSION);
  if (wisp_load_u64(h + AT_SUM) != wisp_hash_bytes(h, AT_SUM))
    return wisp_fail(host, WISP_ERROR_FORMAT, "%s: its header is damaged; save it again", file->name);
  return WISP_OK;
}

/* Whether what the header tells is what this session has. expected: the header that it would write. */
static wisp_status check_session(const wisp_host *host, const wisp_bytes *file, const uint8_t *expected, uint32_t context) {
  const uint8_t *h = file->data;
  const uint32_t kv_type = wisp_load_u32(h + AT_KV_TYPE), length = wisp_load_u32(h + AT_LENGTH);
  if (memcmp(h + AT_FINGERPRINT, expected + AT_FINGERPRINT, 8))
    return wisp_fail(host, WISP_ERROR_UNSUPPORTED, "%s: was saved with another model; use that model, or save it again",
                     file->name);
  if (kv_type != wisp_load_u32(expected + AT_KV_TYPE))
    return wisp_fail(host, WISP_ERROR_UNSUPPORTED, "%s: its K and V are %s, the session's %s; use that type (--kv)", file->name,
                     kv_type <= WISP_KV_Q8_0 ? kv_names[kv_type] : "of an unknown type",
                     kv_names[wisp_load_u32(expected + AT_KV_TYPE)]);
  if (memcmp(h + AT_SLOTS, expected + AT_SLOTS, AT_LENGTH - AT_SLOTS) || wisp_load_u32(h + AT_ZERO))
    return wisp_fail(host, WISP_ERROR_FORMAT, "%s: its header contradicts itself; save it again", file->name);
  if (length > context)
    return wisp_fail(host, WISP_ERROR_CONTEXT_FULL,
                     "%s: holds %u tokens, the context has room for %u; use a larger one (--ctx)", file->name, length, context);
  return WISP_OK;
}

static wisp_status check_body(wisp_state *state, const wisp_host *host, uint32_t vocabulary) {
  const wisp_bytes *file = &state->bytes;
  const uint8_t *h = file->data;
  state->length = wisp_load_u32(h + AT_LENGTH); /* <= context, whose rows fit into memory */
  const uint64_t ids_bytes = state->length * 4ull;
  const uint64_t rows_bytes = (uint64_t)state->length * wisp_load_u32(h + AT_ROW_BYTES) * wisp_load_u32(h + AT_SLOTS);
  const uint64_t body = ids_bytes + rows_bytes, size = HEADER_BYTES + body + SUM_BYTES;
  if (file->size != size)
    return wisp_fail(host, WISP_ERROR_FORMAT, "%s: has %" PRIu64 " bytes, %u tokens need %" PRIu64 "; save it again",
                     file->name, file->size, state->length, size);
  if (wisp_load_u64(h + HEADER_BYTES + body) != wisp_hash_bytes(h + HEADER_BYTES, (size_t)body))
    return wisp_fail(host, WISP_ERROR_FORMAT, "%s: is damaged; save it again", file->name);
  state->ids = h + HEADER_BYTES;
  state->rows = state->ids + ids_bytes;
  for (uint32_t i = 0; i < state->length; i++)
    if (wisp_load_u32(state->ids + 4ull * i) >= vocabulary)
      return wisp_fail(host, WISP_ERROR_FORMAT, "%s: token %u has id %u, outside the vocabulary of %u; save it again",
                       file->name, i, wisp_load_u32(state->ids + 4ull * i), vocabulary);
  return WISP_OK;
}

wisp_status wisp_state_open(wisp_state *state, wisp_engine *engine, const wisp_timeline *timeline,
                            const wisp_model_source *source) {
  const wisp_host *host = &engine->host;
  uint8_t expected[HEADER_BYTES];
  *state = (wisp_state){.length = 0};
  WISP_TRY(wisp_bytes_open(&state->bytes, host, source));
  wisp_status status = check_header(host, &state->bytes);
  if (status == WISP_OK) {
    make_header(engine, timeline, expected);
    status = check_session(host, &state->bytes, expected, timeline->context);
  }
  if (status == WISP_OK) status = check_body(state, host, engine->model.vocabulary);
  if (status != WISP_OK) wisp_state_close(state, host);
  return status;
}

int32_t wisp_state_id(const wisp_state *state, uint32_t position) {
  return (int32_t)wisp_load_u32(state->ids + 4ull * position);
}

void wisp_state_close(wisp_state *state, const wisp_host *host) {
  wisp_bytes_close(&state->bytes, host);
}
