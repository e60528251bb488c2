/* SPDX-License-Identifier: Apache-2.0
 * Hugging Face folders as virtual GGUF files: names, conventions, keys; and every way a folder can be wrong in one line.
 * That the models compute the right thing is checked by tests/model. */
#include <criterion/criterion.h>
#include <math.h>

#include "base/little_endian.h"
#include "model/hf.h"
#include "model/model.h"
#include "tokenizer/tokenizer.h"
#include "unit/capture.h"
#include "unit/checkpoint_builder.h"

static const char config_head[] = "{\"model_type\":\"llama\",\"hidden_size\":8,\"intermediate_size\":8,\"num_hidden_layers\":1,"
                                  "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"vocab_size\":6,"
                                  "\"max_position_embeddings\":32,\"rms_norm_eps\":1e-5,\"rope_theta\":10000.0,"
                                  "\"bos_token_id\":1,\"eos_token_id\":[2,3]";

typedef struct shape {
  const char *name;
  unsigned rows, cols; /* cols 0: a vector */
} shape;

static const shape llama[] = {
    {"model.embed_tokens.weight", 6, 8},
    {"model.layers.0.input_layernorm.weight", 8, 0},
    {"model.layers.0.self_attn.q_proj.weight", 8, 8},
    {"model.layers.0.self_attn.k_proj.weight", 4, 8},
    {"model.layers.0.self_attn.v_proj.weight", 4, 8},
    {"model.layers.0.self_attn.o_proj.weight", 8, 8},
    {"model.layers.0.post_attention_layernorm.weight", 8, 0},
    {"model.layers.0.mlp.gate_proj.weight", 8, 8},
    {"model.layers.0.mlp.up_proj.weight", 8, 8},
    {"model.layers.0.mlp.down_proj.weight", 8, 8},
    {"model.norm.weight", 8, 0},
};
enum { LLAMA = sizeof llama / sizeof *llama };

/* F32 tensors; each weight is its position in the tensor, plus shift for the last of them. */
static void write_weights(const folder *f, const char *file, const shape *shapes, size_t count, float shift) {
  blob header = {0}, data = {0}, all = {0};
  blob_text(&header, "{");
  for (size_t i = 0; i < count; i++) {
    char text[256];
    const unsigned weights = shapes[i].rows * (shapes[i].cols ? shapes[i].cols : 1);
    int used = snprintf(text, sizeof text, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%u", i ? "," : "", shapes[i].name,
                        shapes[i].rows);
    if (shapes[i].cols) used += snprintf(text + used, sizeof text - (size_t)used, ",%u", shapes[i].cols);
    snprintf(text + used, sizeof text - (size_t)used, "],\"data_offsets\":[%zu,%zu]}", data.size, data.size + 4 * weights);
    blob_text(&header, text);
    for (unsigned k = 0; k < weights; k++) blob_number(&data, wisp_bits_of_float((float)k + (i + 1 == count ? shift : 0)), 4);
  }
  blob_text(&header, "}");
  blob_number(&all, header.size, 8);
  blob_add(&all, header.data, header.size);
  blob_add(&all, data.data, data.size);
  folder_write(f, file, all.data, all.size);
  blob_free(&header);
  blob_free(&data);
  blob_free(&all);
}

static void write_config(const folder *f, const char *more) {
  char text[2048];
  snprintf(text, sizeof text, "%s%s}", config_head, more);
  folder_text(f, "config.json", text);
}

static folder good_folder(const char *more) {
  folder f = folder_make();
  write_config(&f, more);
  write_weights(&f, "model.safetensors", llama, LLAMA, 0);
  return f;
}

/* Opens and closes; asserts what comes, one line for a failure, and that nothing stays. Removes the folder. */
static void expect_warned(const folder *f, wisp_status expected, const char *words, unsigned warnings) {
  capture said;
  wisp_host host = capture_host(&said);
  wisp_hf hf;
  wisp_status status = wisp_hf_open(&hf, &host, f->path, false);
  cr_assert_eq(status, expected, "status %s, expected %s (%s), said: %s", wisp_status_name(status), wisp_status_name(expected),
               words, said.error);
  cr_assert_eq(said.errors, expected == WISP_OK ? 0 : 1);
  cr_assert_eq(said.warnings, warnings);
  if (expected != WISP_OK) {
    cr_assert_not_null(strstr(said.error, words), "'%s' does not name '%s'", said.error, words);
    cr_assert_not_null(strstr(said.error, f->path), "'%s' does not name the file", said.error);
  }
  wisp_hf_close(&hf);
  cr_assert_eq(said.live, 0);
  folder_remove(f);
}

static void expect(const folder *f, wisp_status expected, const char *words) {
  expect_warned(f, expected, words, 0);
}

Test(hf, llama) {
  folder f = good_folder("");
  capture said;
  wisp_host host = capture_host(&said);
  wisp_hf hf;
  cr_assert_eq(wisp_hf_open(&hf, &host, f.path, false), WISP_OK, "%s", said.error);
  wisp_text architecture;
  uint32_t width = 0, rotated = 0;
  cr_assert_eq(wisp_gguf_string(&hf.gguf, "general.architecture", true, &architecture), WISP_OK);
  cr_assert(architecture.size == 5 && !memcmp(architecture.bytes, "llama", 5));
  cr_assert_eq(wisp_gguf_u32(&hf.gguf, "llama.embedding_length", true, &width), WISP_OK);
  cr_assert_eq(wisp_gguf_u32(&hf.gguf, "llama.rope.dimension_count", true, &rotated), WISP_OK);
  cr_assert_eq(width, 8);
  cr_assert_eq(rotated, 4);
  cr_assert_eq(hf.gguf.tensor_count, LLAMA);
  cr_assert_null(wisp_gguf_find_tensor(&hf.gguf, "output.weight"));

  /* Rows of q: halves (0 1 | 2 3) of each head become pairs (0 2)(1 3). */
  const wisp_gguf_tensor *q = wisp_gguf_find_tensor(&hf.gguf, "blk.0.attn_q.weight"), *v;
  cr_assert_not_null(q);
  static const unsigned rows[] = {0, 2, 1, 3, 4, 6, 5, 7};
  for (unsigned i = 0; i < 8; i++) cr_assert_eq(wisp_load_f32(q->data + 32 * i), (float)(8 * rows[i]));
  v = wisp_gguf_find_tensor(&hf.gguf, "blk.0.attn_v.weight");
  cr_assert(v && v->shape[0] == 8 && v->shape[1] == 4 && wisp_load_f32(v->data + 32) == 8);

  wisp_model model;
  cr_assert_eq(wisp_model_from_gguf(&model, &host, &hf.gguf), WISP_OK, "%s", said.error);
  cr_assert(model.head_shared);
  cr_assert_eq(model.vocabulary, 6);
  wisp_model_close(&model);
  wisp_hf_close(&hf);
  cr_assert_eq(said.live, 0);
  folder_remove(&f);
}

Test(hf, layer_sharing) {
  folder f = good_folder(",\"layer_sharing\":true,\"share_embedding\":true");
  capture said;
  wisp_host host = capture_host(&said);
  wisp_hf hf;
  wisp_model model;
  cr_assert_eq(wisp_hf_open(&hf, &host, f.path, false), WISP_OK, "%s", said.error);
  cr_assert_eq(wisp_model_from_gguf(&model, &host, &hf.gguf), WISP_OK, "%s", said.error);
  cr_assert_str_eq(model.architecture, "mobilellm");
  cr_assert_eq(model.block_repeat, 2);
  wisp_model_close(&model);
  wisp_hf_close(&hf);
  folder_remove(&f);
}

/* A head beside a shared embedding: silent where they are one, a warning where they differ; used where it is not shared. */
Test(hf, heads) {
  shape shapes[LLAMA + 1];
  memcpy(shapes, llama, sizeof llama);
  shapes[LLAMA] = (shape){"lm_head.weight", 6, 8};
  for (int tied = 0; tied < 2; tied++) {
    for (int differs = 0; differs < 2; differs++) {
      folder f = folder_make();
      write_config(&f, tied ? ",\"tie_word_embeddings\":true" : "");
      write_weights(&f, "model.safetensors", shapes, LLAMA + 1, differs ? 1 : 0);
      capture said;
      wisp_host host = capture_host(&said);
      wisp_hf hf;
      cr_assert_eq(wisp_hf_open(&hf, &host, f.path, false), WISP_OK, "%s", said.error);
      cr_assert_eq(said.warnings, tied && differs);
      cr_assert_eq(wisp_gguf_find_tensor(&hf.gguf, "output.weight") != NULL, !tied && differs);
      wisp_hf_close(&hf);
      cr_assert_eq(said.live, 0);
      folder_remove(&f);
    }
  }
}

Test(hf, config) {
  static const struct {
    const char *text;
    wisp_status expected;
    const char *words;
  } cases[] = {
      {"{", WISP_ERROR_FORMAT, "config.json: not valid JSON"},
      {"[]", WISP_ERROR_FORMAT, "config.json: not a JSON object"},
      {"{}", WISP_ERROR_FORMAT, "config.json: missing key \"model_type\""},
      {"{\"model_type\":\"mamba\"}", WISP_ERROR_UNSUPPORTED, "\"mamba\" is not supported; supported: llama, mobilellm"},
      {"{\"model_type\":\"llama\"}", WISP_ERROR_FORMAT, "config.json: missing key \"hidden_size\""},
      {"{\"model_type\":\"llama\",\"hidden_size\":-1}", WISP_ERROR_FORMAT, "\"hidden_size\" must be a whole number"},
      {"{\"model_type\":\"llama\",\"hidden_size\":0}", WISP_ERROR_FORMAT, "\"hidden_size\" is 0"},
      {"{\"model_type\":\"llama4_text\",\"hidden_size\":8,\"num_hidden_layers\":1}", WISP_ERROR_FORMAT,
       "\"intermediate_size_mlp\""},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    folder f = folder_make();
    folder_text(&f, "config.json", cases[i].text);
    expect(&f, cases[i].expected, cases[i].words);
  }
  static const struct {
    const char *more;
    wisp_status expected;
    const char *words;
  } additions[] = {
      {",\"hidden_act\":\"relu\"", WISP_ERROR_UNSUPPORTED, "\"hidden_act\" is \"relu\""},
      {",\"attention_bias\":true", WISP_ERROR_UNSUPPORTED, "\"attention_bias\" is true"},
      {",\"attention_bias\":1", WISP_ERROR_FORMAT, "\"attention_bias\" must be true or false"},
      {",\"head_dim\":3", WISP_ERROR_UNSUPPORTED, "head size 3"},
      {",\"head_dim\":8", WISP_ERROR_FORMAT, "has 4 rows, expected 1 heads of 8"},
      {",\"w_bits\":7", WISP_ERROR_UNSUPPORTED, "\"w_bits\""},
      {",\"w_bits\":4", WISP_ERROR_FORMAT, "has no scales"},
      {",\"rope_scaling\":{\"rope_type\":\"yarn\"}", WISP_ERROR_UNSUPPORTED, "of type \"yarn\""},
      {",\"rope_scaling\":{\"factor\":8}", WISP_ERROR_UNSUPPORTED, "no \"rope_type\""},
      {",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8}", WISP_ERROR_FORMAT, "missing key \"low_freq_factor\""},
  };
  for (size_t i = 0; i < sizeof additions / sizeof *additions; i++) {
    folder f = good_folder(additions[i].more);
    expect(&f, additions[i].expected, additions[i].words);
  }
}

Test(hf, folders) {
  folder f = folder_make();
  expect(&f, WISP_ERROR_IO, "without config.json");
  f = folder_make();
  write_config(&f, "");
  expect(&f, WISP_ERROR_IO, "no weights: expected model.safetensors");
  f = folder_make();
  write_config(&f, "");
  folder_text(&f, "model.safetensors", "");
  expect(&f, WISP_ERROR_FORMAT, "model.safetensors: file is empty");
  f = folder_make();
  write_config(&f, "");
  folder_text(&f, "pytorch_model.bin", "no zip");
  expect(&f, WISP_ERROR_UNSUPPORTED, "pytorch_model.bin: not a zip archive");
}

Test(hf, tensors) {
  shape shapes[LLAMA + 1];
  memcpy(shapes, llama, sizeof llama);
  static const struct {
    shape added;
    wisp_status expected;
    const char *words;
  } cases[] = {
      {{"model.layers.0.self_attn.rotary_emb.inv_freq", 2, 0}, WISP_OK, ""},
      {{"model.layers.1.input_layernorm.weight", 8, 0},
       WISP_ERROR_UNSUPPORTED,
       "'model.layers.1.input_layernorm.weight' is unknown"},
      {{"model.layers.0.self_attn.q_proj.bias", 8, 0}, WISP_ERROR_UNSUPPORTED, "q_proj.bias' is unknown"},
      {{"model.layers.0.self_attn.q_norm.weight", 4, 0}, WISP_ERROR_UNSUPPORTED, "q_norm.weight' is unknown"},
      {{"model.layers..weight", 4, 0}, WISP_ERROR_UNSUPPORTED, "unknown to architecture llama"},
      {{"model.layers.99999999999999999999.weight", 4, 0}, WISP_ERROR_UNSUPPORTED, "unknown to architecture llama"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    shapes[LLAMA] = cases[i].added;
    folder f = folder_make();
    write_config(&f, "");
    write_weights(&f, "model.safetensors", shapes, LLAMA + 1, 0);
    expect(&f, cases[i].expected, cases[i].words);
  }
}

Test(hf, shards) {
  static const struct {
    const char *index;
    wisp_status expected;
    const char *words;
  } cases[] = {
      {"{}", WISP_ERROR_FORMAT, "\"weight_map\" must be an object"},
      {"{\"weight_map\":{\"a\":1}}", WISP_ERROR_FORMAT, "the name of a file in the folder for 'a'"},
      {"{\"weight_map\":{\"a\":\"../x\"}}", WISP_ERROR_FORMAT, "the name of a file in the folder for 'a'"},
      {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", WISP_ERROR_FORMAT, "the name of a file in the folder for 'a'"},
      {"{\"weight_map\":{\"a\":\"model-00002-of-00002.safetensors\"}}", WISP_ERROR_IO,
       "model-00002-of-00002.safetensors: cannot open"},
      {"{\"weight_map\":{\"a\":\"one.safetensors\"}}", WISP_ERROR_FORMAT, "tensor 'a' is said to be in one.safetensors"},
      {"{\"weight_map\":{\"model.norm.weight\":\"one.safetensors\",\"b\":\"two.safetensors\"}}", WISP_ERROR_FORMAT,
       "appears twice"},
      {"{\"weight_map\":{\"model.norm.weight\":\"one.safetensors\"}}", WISP_OK, ""},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    folder f = folder_make();
    write_config(&f, "");
    write_weights(&f, "one.safetensors", llama, LLAMA, 0);
    write_weights(&f, "two.safetensors", llama, LLAMA, 0);
    folder_text(&f, "model.safetensors.index.json", cases[i].index);
    expect(&f, cases[i].expected, cases[i].words);
  }
}

/* ---- Tokenizers ---------------------------------------------------------------------------------------------------------- */

static void expect_ids(const folder *f, const char *text, unsigned flags, const int32_t *expected, size_t count) {
  capture said;
  wisp_host host = capture_host(&said);
  wisp_hf hf;
  wisp_tokenizer *tokenizer = NULL;
  int32_t ids[64];
  size_t found = 0;
  cr_assert_eq(wisp_hf_open(&hf, &host, f->path, true), WISP_OK, "%s", said.error);
  cr_assert_eq(wisp_tokenizer_create(&tokenizer, &host, &hf.gguf), WISP_OK, "%s", said.error);
  cr_assert_not_null(tokenizer);
  cr_assert_eq(wisp_tokenizer_encode(tokenizer, text, strlen(text), flags, ids, 64, &found), WISP_OK);
  cr_assert_eq(found, count, "%zu ids, expected %zu", found, count);
  for (size_t i = 0; i < count; i++) cr_assert_eq(ids[i], expected[i], "id %zu is %d, expected %d", i, ids[i], expected[i]);
  cr_assert(wisp_tokenizer_is_end(tokenizer, 2));
  cr_assert(wisp_tokenizer_is_end(tokenizer, 3), "the second of \"eos_token_id\" ends too");
  wisp_tokenizer_destroy(&tokenizer);
  wisp_hf_close(&hf);
  cr_assert_eq(said.live, 0);
}

#define IDS(...) (int32_t[]){__VA_ARGS__}, sizeof(int32_t[]){__VA_ARGS__} / sizeof(int32_t)

Test(hf, tokenizer_byte_level) {
  folder f = folder_make();
  write_config(&f, "");
  folder_text(
      &f, "tokenizer.json",
      "{\"added_tokens\":[{\"id\":1,\"content\":\"<s>\",\"special\":true},{\"id\":8,\"content\":\"tool\",\"special\":false}],"
      "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\",\"individual_digits\":true},"
      "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}]},"
      "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}},{\"Sequence\":{}}]},"
      "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":4,\"ab\":2,\"\\u0120\":3,\"\\u0120ab\":5,\"1\":6},"
      "\"merges\":[\"a b\",[\"\\u0120\",\"ab\"]]}}");
  expect_ids(&f, "ab ab11tool", WISP_TOKENIZE_BOS_EOS, IDS(1, 2, 5, 6, 6, 8));
  folder_remove(&f);
}

Test(hf, tokenizer_byte_fallback) {
  folder f = folder_make();
  write_config(&f, "");
  folder_text(
      &f, "tokenizer.json",
      "{\"added_tokens\":[{\"id\":0,\"content\":\"<unk>\",\"special\":true}],\"normalizer\":{\"type\":\"Sequence\","
      "\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"\\u2581\"},{\"type\":\"Replace\"}]},"
      "\"model\":{\"type\":\"BPE\",\"byte_fallback\":true,\"unk_token\":\"<unk>\",\"vocab\":{\"<unk>\":0,\"<0x21>\":1,\"a\":2,"
      "\"b\":3,\"\\u2581\":4,\"ab\":5,\"\\u2581a\":6,\"ba\":7},\"merges\":[\"b a\",\"\\u2581 a\",\"a b\"]}}");
  expect_ids(&f, "aba ab!", WISP_TOKENIZE_PLAIN, IDS(6, 7, 6, 3, 1));
  folder_remove(&f);
}

Test(hf, tokenizer_unigram) {
  folder f = folder_make();
  write_config(&f, "");
  folder_text(
      &f, "tokenizer.json",
      "{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"prepend_scheme\":\"always\"},\"model\":{\"type\":\"Unigram\",\"unk_id\":0,"
      "\"vocab\":[[\"<unk>\",0],[\"\\u2581\",-3],[\"a\",-2],[\"b\",-2],[\"ab\",-3.5],[\"aba\",-9],[\"\\u2581a\",-2.5]]}}");
  expect_ids(&f, "aba \xc3\xa9\xc3\xa9", WISP_TOKENIZE_PLAIN,
             IDS(6, 3, 2, 1, 0)); /* unknown characters are one token together */
  folder_remove(&f);
}

static void put_piece(blob *b, const char *text, float score, unsigned type) {
  const size_t size = strlen(text);
  blob_number(b, 0x0a, 1);
  blob_number(b, size + 9, 1);
  blob_number(b, 0x0a, 1);
  blob_number(b, size, 1);
  blob_text(b, text);
  blob_number(b, 0x15, 1);
  blob_number(b, wisp_bits_of_float(score), 4);
  blob_number(b, 0x18, 1);
  blob_number(b, type, 1);
}

Test(hf, tokenizer_model) {
  blob b = {0};
  put_piece(&b, "<unk>", 0, 2);
  put_piece(&b, "<s>", 0, 3);
  put_piece(&b, "</s>", 0, 3);
  put_piece(&b, "a", -3, 1);
  put_piece(&b, "\xe2\x96\x81", -4, 1);
  put_piece(&b,
            "\xe2\x96\x81"
            "a",
            -1, 1);
  blob_add(&b, "\x12\x02\x18\x02", 4);         /* trainer: BPE */
  blob_add(&b, "\x1a\x04\x18\x01\x20\x00", 6); /* normalizer: a space before the first word, white space stays */
  folder f = folder_make();
  write_config(&f, "");
  folder_write(&f, "tokenizer.model", b.data, b.size);
  folder_text(&f, "tokenizer_config.json", "{\"bos_token\":\"\",\"chat_template\":\"{{ '<|im_start|>' }}\"}");
  expect_ids(&f, "a aa", WISP_TOKENIZE_BOS_EOS, IDS(1, 5, 5, 3));
  for (size_t size = 1; size < b.size; size++) { /* cut anywhere: refused, or fewer pieces */
    capture said;
    wisp_host host = capture_host(&said);
    wisp_hf hf;
    folder_write(&f, "tokenizer.model", b.data, size);
    wisp_status status = wisp_hf_open(&hf, &host, f.path, true);
    cr_assert_eq(said.errors, status == WISP_OK ? 0 : 1);
    wisp_hf_close(&hf);
    cr_assert_eq(said.live, 0);
  }
  folder_remove(&f);
  blob_free(&b);
}

Test(hf, tokenizer_refused) {
  static const struct {
    const char *text;
    wisp_status expected;
    const char *words;
  } cases[] = {
      {"{}", WISP_ERROR_UNSUPPORTED, "tokenizer.json: \"model\" is neither BPE nor Unigram"},
      {"{\"model\":{\"type\":\"WordPiece\"}}", WISP_ERROR_UNSUPPORTED, "neither BPE nor Unigram"},
      {"{\"model\":{\"type\":\"BPE\"}}", WISP_ERROR_FORMAT, "no \"merges\""},
      {"{\"model\":{\"type\":\"BPE\",\"merges\":[]}}", WISP_ERROR_FORMAT, "no \"vocab\""},
      {"{\"model\":{\"type\":\"BPE\",\"merges\":[],\"vocab\":{\"a\":1e9}}}", WISP_ERROR_FORMAT, "a whole number"},
      {"{\"model\":{\"type\":\"BPE\",\"merges\":[],\"vocab\":{\"a\":1,\"b\":1}}}", WISP_ERROR_FORMAT, "1 appears twice"},
      {"{\"model\":{\"type\":\"BPE\",\"merges\":[\"ab\"],\"vocab\":{\"a\":0}}}", WISP_ERROR_FORMAT, "\"merges\" must be"},
      {"{\"model\":{\"type\":\"BPE\",\"merges\":[\"a b\"],\"vocab\":{\"a\":0}}}", WISP_ERROR_FORMAT, "makes no token"},
      {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[1,2]]}}", WISP_ERROR_FORMAT, "tokens and scores"},
      {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[]},\"added_tokens\":[{}]}", WISP_ERROR_FORMAT, "\"added_tokens\""},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    folder f = good_folder("");
    folder_text(&f, "tokenizer.json", cases[i].text);
    expect(&f, cases[i].expected, cases[i].words);
  }
  /* Words cut in an unknown way: the model can be used by ids, and that is said. */
  folder f = good_folder("");
  folder_text(&f, "tokenizer.json",
              "{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\".\"}},"
              "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]},"
              "\"model\":{\"type\":\"BPE\",\"merges\":[],\"vocab\":{\"a\":0}}}");
  expect_warned(&f, WISP_OK, "", 1);
}

/* Wherever memory runs out, one line and nothing left. cJSON's own memory is not the host's. */
Test(hf, no_memory) {
  folder f = good_folder("");
  folder_text(&f, "tokenizer.json", "{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",-1]]}}");
  for (unsigned fail_at = 1;; fail_at++) {
    capture said;
    wisp_host host = capture_host(&said);
    said.fail_at = fail_at;
    wisp_hf hf;
    wisp_status status = wisp_hf_open(&hf, &host, f.path, false);
    if (status == WISP_OK) wisp_hf_close(&hf);
    cr_assert_eq(said.live, 0, "failing allocation %u leaks", fail_at);
    if (status == WISP_OK) break;
    cr_assert_eq(status, WISP_ERROR_MEMORY, "failing allocation %u gives %s", fail_at, wisp_status_name(status));
    cr_assert_eq(said.errors, 1);
  }
  folder_remove(&f);
}
