/* SPDX-License-Identifier: Apache-2.0
 * What a file must hold to be a model: each way of not being one is refused with one line that names file and thing. */
#include <criterion/criterion.h>

#include "unit/capture.h"
#include "unit/small_model.h"

/* Ends the builder. Asserts the status, one error line that holds every word, and that nothing stays. */
static void expect(gguf_builder *builder, wisp_status expected, const char *const words[3]) {
  size_t size;
  uint8_t *bytes = gguf_finish(builder, &size);
  gguf_end(builder);
  capture said;
  wisp_engine_params params = wisp_engine_params_defaults();
  params.host = capture_host(&said);
  params.source.data = bytes;
  params.source.size = size;
  params.load = WISP_LOAD_DESCRIPTION;
  wisp_engine *engine;
  const wisp_status status = wisp_engine_create(&engine, &params);
  cr_assert_eq(status, expected, "status \"%s\", expected \"%s\" (%s), said: %s", wisp_status_name(status),
               wisp_status_name(expected), words[0] ? words[0] : "", said.error);
  cr_assert_eq(said.errors, expected != WISP_OK, "%u errors, the last: %s", said.errors, said.error);
  cr_assert_eq(engine == NULL, expected != WISP_OK);
  for (int i = 0; i < 3 && words[i]; i++)
    cr_assert_not_null(strstr(said.error, words[i]), "\"%s\" does not say \"%s\"", said.error, words[i]);
  if (expected != WISP_OK) cr_assert_not_null(strstr(said.error, "(memory)"), "\"%s\" does not name the file", said.error);
  wisp_engine_destroy(&engine);
  cr_assert_eq(said.live, 0, "%ld blocks were not freed", said.live);
  free(bytes);
}

#define SAYS(...)                                                                                                              \
  (const char *const[3]) {                                                                                                     \
    __VA_ARGS__                                                                                                                \
  }

static gguf_builder without(const char *name) {
  gguf_builder b;
  small_model model = small_model_plain;
  model.omit = name;
  small_model_build(&b, &model);
  return b;
}

Test(model, good_files) {
  static const small_model models[] = {
      {.type = WISP_Q4_0, .end = -1},
      {.type = WISP_F16, .end = 3, .tokens = SMALL_VOCABULARY},
      {.type = WISP_Q8_0, .end = -1, .tokens = SMALL_VOCABULARY - 1, .own_head = true, .factors = true},
      {.type = WISP_F32, .end = -1},
  };
  for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
    gguf_builder b;
    small_model_build(&b, &models[i]);
    expect(&b, WISP_OK, SAYS(NULL));
  }
}

Test(model, description) {
  size_t size;
  small_model model = small_model_plain;
  model.own_head = true;
  uint8_t *bytes = small_model_file(&model, &size);
  wisp_engine_params params = wisp_engine_params_defaults();
  params.source.data = bytes;
  params.source.size = size;
  params.load = WISP_LOAD_DESCRIPTION;
  wisp_engine *engine;
  wisp_model_info info;
  cr_assert_eq(wisp_engine_create(&engine, &params), WISP_OK);
  wisp_engine_model_info(engine, &info);
  cr_assert_str_eq(info.architecture, "llama");
  cr_assert_str_eq(info.type, "q4_0");
  cr_assert(info.width == SMALL_WIDTH && info.heads == SMALL_HEADS && info.kv_heads == SMALL_KV_HEADS && info.head_size == 16);
  cr_assert(info.ffn_width == SMALL_FFN && info.vocabulary == SMALL_VOCABULARY && info.context_length == 256);
  cr_assert(info.executed_blocks == 2 && info.weight_blocks == 2 && info.kv_slots == 2);
  const uint64_t block = 64 * 64 * 2 + 32 * 64 * 2 + 3 * 64 * 96, matrices = 2 * block + 2 * 80 * 64, norms = 5 * 64;
  cr_assert_eq(info.parameters, matrices + norms);
  cr_assert_eq(info.weight_bytes, matrices / 32 * 18 + norms * 4);
  cr_assert_eq(info.kv_bytes_per_token, 2 * 2 * 32 * 2);
  wisp_engine_destroy(&engine);
  free(bytes);
}

Test(model, each_key_that_is_needed) {
  static const char *const keys[] = {"general.architecture",       "llama.embedding_length",
                                     "llama.block_count",          "llama.feed_forward_length",
                                     "llama.attention.head_count", "llama.attention.layer_norm_rms_epsilon",
                                     "llama.context_length"};
  for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
    gguf_builder b = without(keys[i]);
    expect(&b, WISP_ERROR_FORMAT, SAYS(keys[i]));
  }
}

Test(model, numbers_out_of_range) {
  static const struct {
    const char *key;
    uint32_t value;
    const char *words;
  } cases[] = {
      {"llama.embedding_length", 0, "is 0, expected 1 to"},
      {"llama.embedding_length", 1u << 20, "expected 1 to 65536"},
      {"llama.block_count", 0, "is 0"},
      {"llama.block_count", 4000000000u, "is 4000000000, expected 1 to 4096"},
      {"llama.feed_forward_length", 0, "is 0"},
      {"llama.attention.head_count", 0, "is 0"},
      {"llama.attention.head_count", 4096, "expected 1 to 1024"},
      {"llama.context_length", 0, "is 0"},
      {"llama.attention.head_count_kv", 0, "is 0, expected a divisor of head_count 4"},
      {"llama.attention.head_count_kv", 3, "is 3, expected a divisor of head_count 4"},
      {"llama.attention.head_count_kv", 8, "is 8, expected a divisor of head_count 4"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    gguf_builder b = without(cases[i].key);
    gguf_add_u32(&b, cases[i].key, cases[i].value);
    expect(&b, WISP_ERROR_FORMAT, SAYS(cases[i].key, cases[i].words));
  }
}

Test(model, more_blocks_than_tensors) {
  gguf_builder b = without("llama.block_count");
  gguf_add_u32(&b, "llama.block_count", 3);
  expect(&b, WISP_ERROR_FORMAT, SAYS("blk.2.attn_q.weight", "missing"));
}

/* Two heads of 32 would fit the matrices of four heads of 16: only the key and value matrices tell. */
Test(model, heads_that_do_not_fit_the_matrices) {
  gguf_builder b = without("llama.attention.head_count");
  gguf_add_u32(&b, "llama.attention.head_count", 2);
  expect(&b, WISP_ERROR_FORMAT, SAYS("blk.0.attn_k.weight", "[32, 64]", "expected [64, 64]"));
}

Test(model, head_sizes) {
  static const struct {
    const char *key;
    uint32_t value;
    const char *words;
  } cases[] = {
      {"llama.attention.key_length", 15, "head size 15"},     {"llama.attention.key_length", 0, "head size 0"},
      {"llama.attention.key_length", 2048, "head size 2048"}, {"llama.attention.value_length", 8, "value size 8"},
      {"llama.rope.dimension_count", 8, "rotated 8"},         {"llama.expert_count", 8, "mixture of 8 experts"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    gguf_builder b = without(NULL);
    gguf_add_u32(&b, cases[i].key, cases[i].value);
    expect(&b, WISP_ERROR_UNSUPPORTED, SAYS(cases[i].words));
  }
}

Test(model, numbers_that_are_none) {
  static const struct {
    const char *key;
    float value;
  } cases[] = {{"llama.attention.layer_norm_rms_epsilon", -1},
               {"llama.attention.layer_norm_rms_epsilon", __builtin_nanf("")},
               {"llama.rope.freq_base", 0},
               {"llama.rope.freq_base", __builtin_nanf("")},
               {"llama.rope.freq_base", 1e30f}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    gguf_builder b = without(cases[i].key);
    gguf_add_f32(&b, cases[i].key, cases[i].value);
    expect(&b, WISP_ERROR_FORMAT, SAYS(cases[i].key, "expected"));
  }
}

Test(model, keys_of_the_wrong_type) {
  gguf_builder b = without("llama.embedding_length");
  gguf_add_string(&b, "llama.embedding_length", "64");
  expect(&b, WISP_ERROR_FORMAT, SAYS("llama.embedding_length"));
  b = without("general.architecture");
  gguf_add_u32(&b, "general.architecture", 7);
  expect(&b, WISP_ERROR_FORMAT, SAYS("general.architecture"));
}

Test(model, architectures_not_run) {
  gguf_builder b = without("general.architecture");
  gguf_add_string(&b, "general.architecture", "gptneox");
  expect(&b, WISP_ERROR_UNSUPPORTED, SAYS("architecture \"gptneox\" is not supported", "llama"));
  b = without("general.architecture");
  gguf_add_string(&b, "general.architecture", "");
  expect(&b, WISP_ERROR_UNSUPPORTED, SAYS("architecture \"\""));
  b = without(NULL);
  gguf_add_string(&b, "llama.rope.scaling.type", "yarn");
  expect(&b, WISP_ERROR_UNSUPPORTED, SAYS("llama.rope.scaling.type", "yarn"));
}

Test(model, each_tensor_that_is_needed) {
  static const char *const roles[] = {"attn_norm", "attn_q",   "attn_k", "attn_v",  "attn_output",
                                      "ffn_norm",  "ffn_gate", "ffn_up", "ffn_down"};
  for (int block = 0; block < SMALL_BLOCKS; block++)
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
      char name[64];
      snprintf(name, sizeof name, "blk.%d.%s.weight", block, roles[i]);
      gguf_builder b = without(name);
      expect(&b, WISP_ERROR_FORMAT, SAYS(name, "missing"));
    }
  static const char *const others[] = {"token_embd.weight", "output_norm.weight"};
  for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
    gguf_builder b = without(others[i]);
    expect(&b, WISP_ERROR_FORMAT, SAYS(others[i], "missing"));
  }
}

Test(model, no_tensors_at_all) {
  gguf_builder b = without(NULL);
  b.tensor_count = b.tensors_added = 0;
  b.data.size = 0;
  expect(&b, WISP_ERROR_FORMAT, SAYS("token_embd.weight", "missing"));
}

/* Each matrix with one row less. */
Test(model, wrong_shapes) {
  static const char *const names[] = {"blk.0.attn_q.weight",      "blk.0.attn_k.weight",   "blk.1.attn_v.weight",
                                      "blk.0.attn_output.weight", "blk.1.ffn_gate.weight", "blk.0.ffn_up.weight",
                                      "blk.1.ffn_down.weight"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    gguf_builder b = without(NULL);
    char expected[64];
    gguf_builder_tensor *tensor = small_model_tensor(&b, names[i]);
    snprintf(expected, sizeof expected, "expected [%u, %u]", (unsigned)tensor->shape[1], (unsigned)tensor->shape[0]);
    tensor->shape[1]--;
    expect(&b, WISP_ERROR_FORMAT, SAYS(names[i], expected));
  }
}

Test(model, transposed) {
  gguf_builder b = without(NULL);
  gguf_builder_tensor *down = small_model_tensor(&b, "blk.0.ffn_down.weight");
  down->shape[0] = SMALL_WIDTH;
  down->shape[1] = SMALL_FFN;
  expect(&b, WISP_ERROR_FORMAT, SAYS("blk.0.ffn_down.weight", "[96, 64]", "expected [64, 96]"));
}

Test(model, a_dimension_too_many) {
  gguf_builder b = without(NULL);
  gguf_builder_tensor *q = small_model_tensor(&b, "blk.0.attn_q.weight");
  q->dimensions = 3;
  q->shape[1] = q->shape[2] = 8; /* as many weights as before */
  expect(&b, WISP_ERROR_FORMAT, SAYS("blk.0.attn_q.weight"));
}

Test(model, norms_of_the_wrong_length) {
  gguf_builder b = without(NULL);
  small_model_tensor(&b, "blk.1.ffn_norm.weight")->shape[0] = 32;
  expect(&b, WISP_ERROR_FORMAT, SAYS("blk.1.ffn_norm.weight", "[1, 32]", "expected [1, 64]"));
}

Test(model, embeddings_and_heads) {
  gguf_builder b = without(NULL);
  small_model_tensor(&b, "token_embd.weight")->shape[0] = 32;
  expect(&b, WISP_ERROR_FORMAT, SAYS("token_embd.weight", "[80, 32]", "expected [80, 64]"));

  small_model model = small_model_plain;
  model.own_head = true;
  small_model_build(&b, &model);
  small_model_tensor(&b, "output.weight")->shape[1] = 79;
  expect(&b, WISP_ERROR_FORMAT, SAYS("output.weight", "[79, 64]", "expected [80, 64]"));
}

Test(model, tokens_without_a_row) {
  gguf_builder b;
  small_model model = small_model_plain;
  model.tokens = SMALL_VOCABULARY + 1;
  small_model_build(&b, &model);
  expect(&b, WISP_ERROR_FORMAT, SAYS("the tokenizer has 81 tokens", "token_embd.weight", "80 rows"));
}

Test(model, rope_factors) {
  gguf_builder b;
  small_model model = small_model_plain;
  model.factors = true;
  small_model_build(&b, &model);
  small_model_tensor(&b, "rope_freqs.weight")->shape[0] = 4;
  expect(&b, WISP_ERROR_FORMAT, SAYS("rope_freqs.weight", "[1, 4]", "expected [1, 8]"));
  small_model_build(&b, &model);
  float *factors = (float *)(b.data.data + small_model_tensor(&b, "rope_freqs.weight")->offset);
  factors[3] = 0;
  expect(&b, WISP_ERROR_FORMAT, SAYS("rope_freqs.weight[3]", "is 0"));
}

/* Metadata and tokenizer alone are enough for a vocabulary, and only for that. */
Test(model, vocabulary_only) {
  gguf_builder b;
  small_model model = small_model_plain;
  model.tokens = 20;
  small_model_build(&b, &model);
  b.tensor_count = b.tensors_added = 0;
  b.data.size = 0;
  size_t size, count;
  uint8_t *bytes = gguf_finish(&b, &size);
  gguf_end(&b);
  capture said;
  wisp_engine_params params = wisp_engine_params_defaults();
  params.host = capture_host(&said);
  params.source.data = bytes;
  params.source.size = size;
  params.load = WISP_LOAD_VOCABULARY;
  wisp_engine *engine;
  int32_t ids[4];
  cr_assert_eq(wisp_engine_create(&engine, &params), WISP_OK, "%s", said.error);
  cr_assert_eq(wisp_tokenize(engine, "t7", 2, WISP_TOKENIZE_PLAIN, ids, 4, &count), WISP_OK);
  wisp_model_info info;
  wisp_engine_model_info(engine, &info);
  cr_assert(info.executed_blocks == 0 && info.parameters == 0);
  wisp_engine_destroy(&engine);
  cr_assert_eq(said.live, 0);
  free(bytes);
}
