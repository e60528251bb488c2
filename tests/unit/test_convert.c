/* SPDX-License-Identifier: Apache-2.0
 * Conversion and calibration of a small model in memory: types of tensors, keys, what the result computes, and failures. */
#include <criterion/criterion.h>
#include <math.h>

#include "model/gguf.h"
#include "unit/capture.h"
#include "unit/memory_file.h"
#include "unit/session_fixture.h"
#include "unit/small_model.h"

enum { TOKENS = 24 };
static const small_model source_model = {.type = WISP_F32, .end = -1};

typedef struct conversion {
  capture said;
  wisp_convert_params params;
  wisp_convert_result result;
  uint8_t *source;
  memory_file file;
} conversion;

static void begin(conversion *c, const small_model *model, const char *type) {
  *c = (conversion){.params = wisp_convert_params_defaults()};
  c->params.host = capture_host(&c->said);
  size_t size;
  c->source = small_model_file(model, &size);
  c->params.source.data = c->source;
  c->params.source.size = size;
  c->params.type = type;
  c->params.threads = 2;
  c->params.write = memory_write;
  c->params.write_user = &c->file;
}

static void end(conversion *c) {
  cr_assert_eq(c->said.live, 0, "%ld blocks were not freed", c->said.live);
  free(c->source);
  free(c->file.data);
}

static void convert(conversion *c) {
  cr_assert_eq(wisp_convert(&c->params, &c->result), WISP_OK, "%s", c->said.error);
  cr_assert_eq(c->said.errors, 0);
}

static wisp_gguf open_result(const conversion *c) {
  static char name[] = "(result)";
  static const wisp_host host = {0};
  wisp_gguf gguf;
  cr_assert_eq(wisp_gguf_open(&gguf, &host, &(wisp_bytes){.data = c->file.data, .size = c->file.size, .name = name}), WISP_OK);
  return gguf;
}

static const char *type_of(const wisp_gguf *gguf, const char *name) {
  const wisp_gguf_tensor *tensor = wisp_gguf_find_tensor(gguf, name);
  cr_assert_not_null(tensor, "%s", name);
  return tensor->type->name;
}

static wisp_engine *open_engine(const uint8_t *data, size_t size, const wisp_host *host) {
  wisp_engine_params params = wisp_engine_params_defaults();
  params.host = *host;
  params.source.data = data;
  params.source.size = size;
  params.device = "cpu";
  params.threads = 1;
  wisp_engine *engine;
  cr_assert_eq(wisp_engine_create(&engine, &params), WISP_OK);
  return engine;
}

static void some_ids(int32_t ids[TOKENS]) {
  for (int i = 0; i < TOKENS; i++) ids[i] = (i * 37 + i * i * 5 + 3) % SMALL_VOCABULARY;
}

static void logits_of(const uint8_t *data, size_t size, float *logits) {
  capture said;
  const wisp_host host = capture_host(&said);
  wisp_engine *engine = open_engine(data, size, &host);
  wisp_session *session;
  const wisp_session_params params = {.context = TOKENS, .kv_type = WISP_KV_F32, .sampler = wisp_sampler_params_defaults()};
  cr_assert_eq(wisp_session_create(&session, engine, &params), WISP_OK);
  int32_t ids[TOKENS];
  some_ids(ids);
  cr_assert_eq(wisp_session_append(session, ids, TOKENS, WISP_LOGITS_ALL, logits), WISP_OK);
  wisp_session_destroy(&session);
  wisp_engine_destroy(&engine);
}

static double nmse(const float *a, const float *b) {
  double error = 0, norm = 0;
  for (int i = 0; i < TOKENS * SMALL_VOCABULARY; i++) {
    error += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    norm += (double)a[i] * (double)a[i];
  }
  return error / norm;
}

/* Rows of 64 and 96 are no multiple of 256: K types fall back. */
Test(convert, types) {
  static const struct {
    const char *type, *matrices, *embedding;
    uint32_t fallbacks, file_type;
    double nmse;
  } rows[] = {
      {"f32", "f32", "f32", 0, 0, 0},         {"f16", "f16", "f16", 0, 1, 1e-5},      {"bf16", "bf16", "bf16", 0, 32, 1e-3},
      {"q4_0", "q4_0", "q8_0", 0, 2, 0.1},    {"q4_1", "q4_1", "q8_0", 0, 3, 0.1},    {"q5_0", "q5_0", "q8_0", 0, 8, 0.03},
      {"q5_1", "q5_1", "q8_0", 0, 9, 0.03},   {"q8_0", "q8_0", "q8_0", 0, 7, 1e-3},   {"q4_k", "q5_0", "q8_0", 15, 14, 0.03},
      {"q5_k", "q5_1", "q8_0", 15, 16, 0.03}, {"q6_k", "q8_0", "q8_0", 15, 18, 1e-3}, {"w8a8", "q8_0", "q8_0", 0, 7, 3e-3},
  };
  enum { ROWS = sizeof rows / sizeof *rows };
  static float expected[TOKENS * SMALL_VOCABULARY], logits[TOKENS * SMALL_VOCABULARY];
  for (int i = 0; i < ROWS; i++) {
    cr_assert_str_eq(wisp_convert_types()[i], rows[i].type);
    conversion c;
    begin(&c, &source_model, rows[i].type);
    if (i == 0) logits_of(c.source, (size_t)c.params.source.size, expected);
    convert(&c);
    wisp_gguf gguf = open_result(&c);
    const bool w8a8 = !strcmp(rows[i].type, "w8a8");
    cr_assert_str_eq(type_of(&gguf, w8a8 ? "blk.1.ffn_down.hadamard" : "blk.1.ffn_down.weight"), rows[i].matrices);
    cr_assert_eq(wisp_gguf_find_tensor(&gguf, "blk.1.ffn_down.weight") == NULL, w8a8);
    cr_assert_str_eq(type_of(&gguf, "token_embd.weight"), rows[i].embedding);
    cr_assert_str_eq(type_of(&gguf, "blk.0.attn_norm.weight"), "f32");
    cr_assert_eq(c.result.fallbacks, rows[i].fallbacks, "%s: %u", rows[i].type, c.result.fallbacks);
    cr_assert_eq(c.result.tensors, gguf.tensor_count);
    uint64_t bytes = 0, file_type = 0;
    for (uint64_t t = 0; t < gguf.tensor_count; t++) bytes += (gguf.tensors[t].bytes + 31) / 32 * 32;
    cr_assert_eq(c.result.bytes, bytes);
    file_type = (uint64_t)wisp_gguf_array_integer(wisp_gguf_find(&gguf, "general.file_type"), 0);
    cr_assert_eq(file_type, rows[i].file_type);
    cr_assert_eq(wisp_gguf_array_integer(wisp_gguf_find(&gguf, "general.quantization_version"), 0), 2);
    cr_assert_eq(wisp_gguf_find(&gguf, "wisp.activation_type") != NULL, w8a8);
    wisp_gguf_close(&gguf);
    logits_of(c.file.data, c.file.size, logits);
    const double error = nmse(expected, logits);
    cr_assert(error <= rows[i].nmse, "%s: %g", rows[i].type, error);
    cr_assert(error > 0 || rows[i].nmse == 0, "%s lost nothing", rows[i].type);
    end(&c);
  }
  cr_assert_null(wisp_convert_types()[ROWS]);
}

/* The same type again copies the bytes; w8a8 back to f32 drops the key and undoes the transform. */
Test(convert, again) {
  conversion first, second, back;
  begin(&first, &source_model, "w8a8");
  convert(&first);
  begin(&second, &source_model, "w8a8");
  second.params.source.data = first.file.data;
  second.params.source.size = first.file.size;
  convert(&second);
  cr_assert(second.file.size == first.file.size && !memcmp(second.file.data, first.file.data, first.file.size));
  begin(&back, &source_model, "f32");
  back.params.source.data = first.file.data;
  back.params.source.size = first.file.size;
  convert(&back);
  wisp_gguf gguf = open_result(&back);
  cr_assert_null(wisp_gguf_find(&gguf, "wisp.activation_type"));
  cr_assert_str_eq(type_of(&gguf, "blk.0.attn_q.weight"), "f32");
  cr_assert_null(wisp_gguf_find_tensor(&gguf, "blk.0.attn_q.hadamard"));
  wisp_gguf_close(&gguf);
  static float expected[TOKENS * SMALL_VOCABULARY], logits[TOKENS * SMALL_VOCABULARY];
  logits_of(first.source, (size_t)first.params.source.size, expected);
  logits_of(back.file.data, back.file.size, logits);
  cr_assert_lt(nmse(expected, logits), 1e-3);
  end(&first), end(&second), end(&back);
}

Test(convert, options) {
  conversion plain, searched, small;
  begin(&plain, &source_model, "q4_0");
  plain.params.plain = true;
  convert(&plain);
  begin(&searched, &source_model, "q4_0");
  convert(&searched);
  cr_assert(plain.file.size == searched.file.size && memcmp(plain.file.data, searched.file.data, plain.file.size));
  begin(&small, &source_model, "q4_0");
  small.params.embedding_type = "q4_0";
  convert(&small);
  cr_assert_lt(small.file.size, searched.file.size);
  wisp_gguf gguf = open_result(&small);
  cr_assert_str_eq(type_of(&gguf, "token_embd.weight"), "q4_0");
  wisp_gguf_close(&gguf);
  end(&plain), end(&searched), end(&small);
}

/* More threads, same bytes. */
Test(convert, threads) {
  conversion one, four;
  begin(&one, &source_model, "q5_1");
  one.params.threads = 1;
  begin(&four, &source_model, "q5_1");
  four.params.threads = 4;
  convert(&one), convert(&four);
  cr_assert(one.file.size == four.file.size && !memcmp(one.file.data, four.file.data, one.file.size));
  end(&one), end(&four);
}

/* ---- Calibration ------------------------------------------------------------------------------------------------------ */

static void calibrate(const uint8_t *data, size_t size, memory_file *file) {
  capture said;
  const wisp_host host = capture_host(&said);
  wisp_engine *engine = open_engine(data, size, &host);
  int32_t ids[TOKENS];
  some_ids(ids);
  wisp_calibrate_params params = wisp_calibrate_params_defaults();
  params.ids = ids;
  params.count = TOKENS;
  params.window = 10;
  params.write = memory_write;
  params.write_user = file;
  cr_assert_eq(wisp_calibrate(engine, &params), WISP_OK, "%s", said.error);
  params.window = 0;
  cr_assert_eq(wisp_calibrate(engine, &params), WISP_ERROR_ARGUMENT);
  params.window = 8;
  ids[3] = SMALL_VOCABULARY;
  cr_assert_eq(wisp_calibrate(engine, &params), WISP_ERROR_ARGUMENT);
  wisp_engine_destroy(&engine);
  cr_assert_eq(said.live, 0);
}

Test(convert, importance) {
  conversion c, with;
  begin(&c, &source_model, "q4_0");
  convert(&c);
  begin(&with, &source_model, "q4_0");
  memory_file file = {0};
  calibrate(with.source, (size_t)with.params.source.size, &file);
  conversion shown = {.file = file};
  wisp_gguf gguf = open_result(&shown);
  cr_assert_eq(gguf.tensor_count, 2 * (7 * SMALL_BLOCKS + 1)); /* the shared head is the embedding's */
  const wisp_gguf_tensor *sums = wisp_gguf_find_tensor(&gguf, "blk.1.ffn_down.weight.in_sum2");
  const wisp_gguf_tensor *counts = wisp_gguf_find_tensor(&gguf, "blk.1.ffn_down.weight.counts");
  cr_assert(sums && counts && sums->shape[0] == SMALL_FFN && counts->shape[0] == 1);
  float count, values[SMALL_FFN];
  counts->type->dequantize(counts->data, &count, 1);
  cr_assert_eq(count, TOKENS);
  sums->type->dequantize(sums->data, values, SMALL_FFN);
  for (int i = 0; i < SMALL_FFN; i++) cr_assert_gt(values[i], 0);
  /* q, k and v see the same. */
  const wisp_gguf_tensor *q = wisp_gguf_find_tensor(&gguf, "blk.0.attn_q.weight.in_sum2");
  const wisp_gguf_tensor *v = wisp_gguf_find_tensor(&gguf, "blk.0.attn_v.weight.in_sum2");
  cr_assert(q && v && !memcmp(q->data, v->data, q->bytes));
  wisp_gguf_close(&gguf);

  with.params.importance.data = file.data;
  with.params.importance.size = file.size;
  convert(&with);
  cr_assert(with.file.size == c.file.size && memcmp(with.file.data, c.file.data, c.file.size), "importance changed nothing");

  /* w8a8: columns move into the norms, the model computes nearly the same. */
  static float expected[TOKENS * SMALL_VOCABULARY], logits[TOKENS * SMALL_VOCABULARY];
  conversion equalized;
  begin(&equalized, &source_model, "w8a8");
  equalized.params.importance = with.params.importance;
  convert(&equalized);
  logits_of(equalized.source, (size_t)equalized.params.source.size, expected);
  logits_of(equalized.file.data, equalized.file.size, logits);
  cr_assert_lt(nmse(expected, logits), 3e-3);
  gguf = open_result(&equalized);
  conversion source = {.file = {.data = equalized.source, .size = (size_t)equalized.params.source.size}};
  wisp_gguf before = open_result(&source);
  cr_assert(memcmp(wisp_gguf_find_tensor(&gguf, "blk.0.ffn_norm.weight")->data,
                   wisp_gguf_find_tensor(&before, "blk.0.ffn_norm.weight")->data, SMALL_WIDTH * sizeof(float)));
  wisp_gguf_close(&gguf);
  wisp_gguf_close(&before);
  end(&c), end(&with), end(&equalized);
  free(file.data);
}

/* ---- Failures --------------------------------------------------------------------------------------------------------- */

static void expect(conversion *c, wisp_status status, const char *word) {
  cr_assert_eq(wisp_convert(&c->params, &c->result), status, "expected \"%s\", said: %s", wisp_status_name(status),
               c->said.error);
  cr_assert_eq(c->said.errors, word ? 1 : 0, "%u errors, the last: %s", c->said.errors, c->said.error);
  if (word) cr_assert_not_null(strstr(c->said.error, word), "\"%s\" does not say \"%s\"", c->said.error, word);
  end(c);
}

static bool stop(void *user, float fraction) {
  cr_assert(fraction > 0 && fraction <= 1);
  return --*(int *)user > 0;
}

Test(convert, bad_input) {
  conversion c;
  begin(&c, &source_model, "q3_x");
  expect(&c, WISP_ERROR_ARGUMENT, "q3_x");
  begin(&c, &source_model, NULL);
  expect(&c, WISP_ERROR_ARGUMENT, "unknown type");
  begin(&c, &source_model, "q4_0");
  c.params.embedding_type = "nonsense";
  expect(&c, WISP_ERROR_ARGUMENT, "nonsense");
  begin(&c, &source_model, "q4_0");
  c.params.source.size -= 1000;
  expect(&c, WISP_ERROR_FORMAT, "truncated");
  for (size_t limit = 1; limit < 40000; limit += 6000) {
    begin(&c, &source_model, "q4_0");
    c.file.limit = limit;
    expect(&c, WISP_ERROR_IO, "cannot write");
  }
  begin(&c, &source_model, "q4_0");
  int calls = 5;
  c.params.progress = stop;
  c.params.progress_user = &calls;
  expect(&c, WISP_ERROR_CANCELLED, NULL);
  begin(&c, &source_model, "q4_0");
  c.params.importance = c.params.source; /* a model, not an importance file */
  expect(&c, WISP_ERROR_FORMAT, "no importance");
}

Test(convert, weights_that_are_not_finite) {
  static const float values[] = {INFINITY, NAN};
  for (int i = 0; i < 2; i++) {
    conversion c;
    begin(&c, &source_model, "q8_0");
    conversion source = {.file = {.data = c.source, .size = (size_t)c.params.source.size}};
    wisp_gguf gguf = open_result(&source);
    memcpy((uint8_t *)wisp_gguf_find_tensor(&gguf, "blk.1.attn_v.weight")->data + 400, &values[i], 4);
    wisp_gguf_close(&gguf);
    expect(&c, WISP_ERROR_FORMAT, "blk.1.attn_v.weight");
  }
}

Test(convert, out_of_memory) {
  unsigned failures = 0;
  for (unsigned at = 1; at < 400; at++) {
    conversion c;
    begin(&c, &source_model, "w8a8");
    c.params.threads = 1;
    c.said.fail_at = at;
    const wisp_status status = wisp_convert(&c.params, &c.result);
    cr_assert_eq(status, c.said.errors ? WISP_ERROR_MEMORY : WISP_OK, "allocation %u: %s", at, c.said.error);
    failures += status != WISP_OK;
    end(&c);
    if (status == WISP_OK) break;
  }
  cr_assert(failures > 5 && failures < 399, "%u", failures);
}

/* A synthetic model's file gives what the model in memory gives, has a vocabulary, and keeps shared blocks. */
static void synthetic(const char *shape, const char *type) {
  memory_file file = {0};
  fixture made, read;
  wisp_convert_params params = wisp_convert_params_defaults();
  wisp_convert_result result;
  int32_t ids[TOKENS];
  params.source.synthetic = shape;
  params.source.synthetic_seed = 3; /* the fixture's */
  params.type = type;
  params.write = memory_write;
  params.write_user = &file;
  cr_assert_eq(wisp_convert(&params, &result), WISP_OK);
  cr_assert(result.tensors == 2 + 9 * 3 && result.bytes > 0 && result.fallbacks == 0);

  wisp_engine_params from_file = fixture_params(&read, "cpu", NULL);
  from_file.source = (wisp_model_source){.data = file.data, .size = file.size, .fd = -1};
  fixture_create(&read, &from_file);
  wisp_engine_params in_memory = fixture_params(&made, "cpu", shape);
  in_memory.source.synthetic_type = type;
  fixture_create(&made, &in_memory);
  wisp_model_info a, b;
  wisp_engine_model_info(read.engine, &a);
  wisp_engine_model_info(made.engine, &b);
  cr_assert(a.executed_blocks == b.executed_blocks && a.parameters == b.parameters && a.weight_bytes == b.weight_bytes &&
            a.context_length == b.context_length && !strcmp(a.name, b.name) && !strcmp(a.architecture, b.architecture));
  fixture_ids(&read, ids, TOKENS);
  float *rows[2];
  fixture *fixtures[2] = {&read, &made};
  for (int i = 0; i < 2; i++) {
    rows[i] = fixture_rows(fixtures[i], TOKENS);
    wisp_session *session = fixture_session(fixtures[i], TOKENS);
    fixture_append(session, ids, TOKENS, WISP_LOGITS_ALL, rows[i]);
    wisp_session_destroy(&session);
  }
  cr_assert_arr_eq(rows[0], rows[1], TOKENS * a.vocabulary * sizeof(float));
  static const char text[] = "b c any thing\n";
  char back[64];
  size_t count, size;
  cr_assert_eq(wisp_tokenize(read.engine, text, strlen(text), WISP_TOKENIZE_PLAIN, ids, TOKENS, &count), WISP_OK);
  cr_assert_eq(wisp_detokenize(read.engine, ids, count, false, back, sizeof back, &size), WISP_OK);
  cr_assert(size == strlen(text) && !memcmp(back, text, size), "%.*s", (int)size, back);
  for (int i = 0; i < 2; i++) {
    free(rows[i]);
    fixture_close(fixtures[i]);
  }
  free(file.data);
}
Test(convert, synthetic_models) {
  synthetic("tiny", "q8_0");
  synthetic("tiny-ls", "q4_0");
  synthetic("tiny", "w8a8");
}
