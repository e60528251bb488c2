/* SPDX-License-Identifier: Apache-2.0
 * Ids and words against the vectors of tests/data/make_tokenizer_vectors.py, round trips, flags, hostile vocabularies. */
#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <utf8proc.h>

#include "tokenizer/vocabulary.h"
#include "unit/tokenizer_file.h"

enum { ROOM = 8192 };

/* ---- Vectors ---- */

static cJSON *read_vectors(const char *name) {
  char path[1024];
  snprintf(path, sizeof path, "%s/%s", WISP_TEST_DATA, name);
  FILE *file = fopen(path, "rb");
  cr_assert_not_null(file, "%s is missing", path);
  fseek(file, 0, SEEK_END);
  long size = ftell(file);
  rewind(file);
  char *text = calloc(1, (size_t)size + 1);
  cr_assert_eq(fread(text, 1, (size_t)size, file), (size_t)size);
  fclose(file);
  cJSON *json = cJSON_Parse(text);
  free(text);
  cr_assert_not_null(json, "%s is not JSON", path);
  return json;
}

/* "text", or "hex" where JSON cannot carry it. */
static size_t case_text(const cJSON *test, char *text) {
  const cJSON *plain = cJSON_GetObjectItem(test, "text"), *hex = cJSON_GetObjectItem(test, "hex");
  if (plain) {
    size_t size = strlen(plain->valuestring);
    cr_assert_leq(size, (size_t)ROOM);
    memcpy(text, plain->valuestring, size);
    return size;
  }
  size_t size = strlen(hex->valuestring) / 2;
  for (size_t i = 0; i < size; i++) {
    unsigned byte;
    cr_assert_eq(sscanf(hex->valuestring + 2 * i, "%2x", &byte), 1);
    text[i] = (char)byte;
  }
  return size;
}

static bool same_ids(const cJSON *expected, const int32_t *ids, size_t count) {
  size_t i = 0;
  const cJSON *id;
  cJSON_ArrayForEach(id, expected) {
    if (i == count || ids[i++] != id->valueint) return false;
  }
  return i == count;
}

/* What comes back of a text: byte-level BPE makes U+FFFD of bytes that are not UTF-8, and a vocabulary may lack bytes. */
static size_t expressible(const wisp_tokenizer *tokenizer, const char *text, size_t size, char *rest) {
  size_t kept = 0;
  for (size_t i = 0; i < size;) {
    int32_t point;
    utf8proc_ssize_t length = utf8proc_iterate((const uint8_t *)text + i, (utf8proc_ssize_t)(size - i), &point);
    if (length <= 0 && tokenizer->pretokenizer) {
      memcpy(rest + kept, "\xEF\xBF\xBD", 3);
      kept += 3;
      i++;
      continue;
    }
    for (utf8proc_ssize_t k = 0; k < (length > 0 ? length : 1); k++, i++) {
      if (tokenizer->byte_ids[(uint8_t)text[i]] >= 0) rest[kept++] = text[i];
    }
  }
  return kept;
}

static void check_round_trip(const wisp_tokenizer *tokenizer, const char *text, size_t size, unsigned flags) {
  int32_t ids[ROOM];
  char back[ROOM], expected[3 * ROOM];
  size_t count, length, kept = expressible(tokenizer, text, size, expected);
  cr_assert_eq(wisp_tokenizer_encode(tokenizer, text, size, flags, ids, ROOM, &count), WISP_OK);
  cr_assert_leq(count, (size_t)ROOM);
  cr_assert_eq(wisp_tokenizer_decode(tokenizer, ids, count, true, back, ROOM, &length), WISP_OK);
  cr_assert(length == kept && memcmp(back, expected, kept) == 0, "\"%.*s\" came back as \"%.*s\"", (int)size, text, (int)length,
            back);
}

Test(tokenizer, smollm2_gives_the_ids_of_independent_tokenizers) {
  tokenizer_file file;
  tokenizer_file_default_model(&file);
  cJSON *json = read_vectors("tokenizer_smollm2.json");
  cr_assert_eq((int)wisp_tokenizer_vocabulary(file.tokenizer), cJSON_GetObjectItem(json, "vocabulary")->valueint);

  size_t tested = 0, replaced = 0;
  const cJSON *test;
  cJSON_ArrayForEach(test, cJSON_GetObjectItem(json, "cases")) {
    char text[ROOM];
    int32_t ids[ROOM];
    size_t size = case_text(test, text), count;
    unsigned flags = cJSON_IsTrue(cJSON_GetObjectItem(test, "special")) ? WISP_TOKENIZE_SPECIAL : WISP_TOKENIZE_PLAIN;
    cr_assert_eq(wisp_tokenizer_encode(file.tokenizer, text, size, flags, ids, ROOM, &count), WISP_OK);
    cr_expect(same_ids(cJSON_GetObjectItem(test, "ids"), ids, count), "case %zu: \"%.*s\"", tested, (int)size, text);
    check_round_trip(file.tokenizer, text, size, flags);
    replaced += cJSON_IsFalse(cJSON_GetObjectItem(test, "utf8"));
    tested++;
  }
  cr_assert_geq(tested, (size_t)300);
  cr_assert_geq(replaced, (size_t)20);
  cJSON_Delete(json);
  tokenizer_file_close(&file);
}

Test(tokenizer, smollm2_ends_where_llama_cpp_does) {
  tokenizer_file file;
  tokenizer_file_default_model(&file);
  cJSON *json = read_vectors("tokenizer_smollm2.json"), *ends = cJSON_GetObjectItem(json, "ends");
  int found = 0;
  for (int32_t id = 0; id < (int32_t)wisp_tokenizer_vocabulary(file.tokenizer); id++) {
    bool expected = false;
    const cJSON *end;
    cJSON_ArrayForEach(end, ends) expected |= end->valueint == id;
    cr_expect_eq(wisp_tokenizer_is_end(file.tokenizer, id), expected, "token %d", id);
    found += expected;
  }
  cr_assert_eq(found, cJSON_GetArraySize(ends));
  cr_assert_gt(found, 0);
  cJSON_Delete(json);
  tokenizer_file_close(&file);
}

Test(tokenizer, words_are_those_of_the_published_expressions) {
  cJSON *json = read_vectors("tokenizer_smollm2.json");
  size_t tested = 0;
  const cJSON *test, *words, *length;
  cJSON_ArrayForEach(test, cJSON_GetObjectItem(json, "cases")) {
    char text[ROOM];
    size_t size = case_text(test, text);
    cJSON_ArrayForEach(words, cJSON_GetObjectItem(test, "words")) {
      const wisp_pretokenizer *rules = wisp_pretokenizer_find(words->string, strlen(words->string));
      cr_assert_not_null(rules, "%s", words->string);
      size_t at = 0;
      cJSON_ArrayForEach(length, words) {
        size_t found = at < size ? wisp_pretokenize(rules, text + at, size - at) : 0;
        cr_assert_eq(found, (size_t)length->valueint, "%s cuts \"%.*s\" at %zu after %zu bytes", rules->name, (int)size, text,
                     at, found);
        at += found;
      }
      cr_assert_eq(at, size);
      tested++;
    }
  }
  cr_assert_geq(tested, (size_t)1200);
  cJSON_Delete(json);
}

Test(tokenizer, spm_gives_the_ids_of_sentencepiece) {
  tokenizer_file file;
  tokenizer_file_path(&file, WISP_TEST_DATA "/tokenizer_spm.gguf");
  cJSON *json = read_vectors("tokenizer_spm.json");
  size_t tested = 0;
  const cJSON *test;
  cJSON_ArrayForEach(test, cJSON_GetObjectItem(json, "cases")) {
    char text[ROOM];
    int32_t ids[ROOM];
    size_t size = case_text(test, text), count;
    cr_assert_eq(wisp_tokenizer_encode(file.tokenizer, text, size, WISP_TOKENIZE_PLAIN, ids, ROOM, &count), WISP_OK);
    cr_expect(same_ids(cJSON_GetObjectItem(test, "ids"), ids, count), "case %zu: \"%.*s\"", tested, (int)size, text);
    check_round_trip(file.tokenizer, text, size, WISP_TOKENIZE_PLAIN);
    tested++;
  }
  cr_assert_geq(tested, (size_t)300);
  cJSON_Delete(json);
  tokenizer_file_close(&file);
}

/* ---- Small vocabularies ---- */

enum { BYTES = 256, WORDS = 24, SMALL = BYTES + WORDS };

/* A byte-level BPE vocabulary: 256 bytes, then words. */
typedef struct small_bpe {
  char texts[BYTES][4];
  const char *tokens[SMALL];
  int32_t types[SMALL];
  uint32_t count;
} small_bpe;

static void small_bpe_bytes(small_bpe *bpe) {
  int beyond = 256;
  memset(bpe, 0, sizeof *bpe);
  for (int byte = 0; byte < BYTES; byte++) {
    bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
    utf8proc_encode_char(printable ? byte : beyond++, (uint8_t *)bpe->texts[byte]);
    bpe->tokens[byte] = bpe->texts[byte];
    bpe->types[byte] = WISP_TOKEN_NORMAL;
  }
  bpe->count = BYTES;
}

static int32_t small_bpe_add(small_bpe *bpe, const char *text, wisp_token_type type) {
  bpe->tokens[bpe->count] = text;
  bpe->types[bpe->count] = type;
  return (int32_t)bpe->count++;
}

static void small_bpe_write(const small_bpe *bpe, gguf_builder *builder, const char *pre, const char *const *merges,
                            uint64_t count) {
  gguf_begin(builder);
  gguf_add_string(builder, "tokenizer.ggml.model", "gpt2");
  if (pre) gguf_add_string(builder, "tokenizer.ggml.pre", pre);
  gguf_add_strings(builder, "tokenizer.ggml.tokens", bpe->tokens, bpe->count);
  gguf_add_array(builder, "tokenizer.ggml.token_type", WISP_GGUF_I32, bpe->types, bpe->count);
  gguf_add_strings(builder, "tokenizer.ggml.merges", merges, count);
}

static const char *const abc_merges[] = {"b c", "a b", "a bc", "b c"}; /* the second "b c" counts for nothing */

/* ids 256.. = bc ab abc */
static void abc_vocabulary(small_bpe *bpe) {
  small_bpe_bytes(bpe);
  small_bpe_add(bpe, "bc", WISP_TOKEN_NORMAL);
  small_bpe_add(bpe, "ab", WISP_TOKEN_NORMAL);
  small_bpe_add(bpe, "abc", WISP_TOKEN_NORMAL);
}

static void expect_ids(const wisp_tokenizer *tokenizer, const char *text, unsigned flags, const int32_t *expected,
                       size_t count) {
  int32_t ids[64];
  size_t found;
  cr_assert_eq(wisp_tokenizer_encode(tokenizer, text, strlen(text), flags, ids, 64, &found), WISP_OK);
  cr_assert(found == count && memcmp(ids, expected, count * sizeof *ids) == 0, "\"%s\": %zu ids, first %d", text, found,
            found > 0 ? ids[0] : -1);
}
#define EXPECT_IDS(tokenizer, text, flags, ...)                                                                                \
  expect_ids(tokenizer, text, flags, (const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

Test(tokenizer, merges_go_by_rank_then_from_the_left) {
  small_bpe bpe;
  gguf_builder builder;
  tokenizer_file file;
  abc_vocabulary(&bpe);
  small_bpe_write(&bpe, &builder, "gpt-2", abc_merges, 4);
  cr_assert_eq(tokenizer_file_built(&file, &builder), WISP_OK, "%s", file.capture.error);
  EXPECT_IDS(file.tokenizer, "abc", 0, 258);
  EXPECT_IDS(file.tokenizer, "bcab", 0, 256, 257);
  EXPECT_IDS(file.tokenizer, "abcabc", 0, 258, 258);
  EXPECT_IDS(file.tokenizer, "aabcc", 0, 'a', 258, 'c');
  tokenizer_file_close(&file);
}

Test(tokenizer, llama_bpe_takes_whole_words_first) {
  small_bpe bpe;
  gguf_builder builder;
  tokenizer_file file;
  for (int whole = 0; whole < 2; whole++) {
    abc_vocabulary(&bpe);
    int32_t cab = small_bpe_add(&bpe, "cab", WISP_TOKEN_NORMAL); /* that no merge makes */
    small_bpe_write(&bpe, &builder, whole ? "llama-bpe" : "qwen2", abc_merges, 4);
    cr_assert_eq(tokenizer_file_built(&file, &builder), WISP_OK, "%s", file.capture.error);
    if (whole) EXPECT_IDS(file.tokenizer, "cab", 0, cab);
    if (!whole) EXPECT_IDS(file.tokenizer, "cab", 0, 'c', 257);
    tokenizer_file_close(&file);
  }
}

Test(tokenizer, special_tokens_longest_first_and_only_where_asked) {
  small_bpe bpe;
  gguf_builder builder;
  tokenizer_file file;
  abc_vocabulary(&bpe);
  int32_t turn = small_bpe_add(&bpe, "<x>", WISP_TOKEN_CONTROL), longer = small_bpe_add(&bpe, "<x>>", WISP_TOKEN_CONTROL);
  int32_t user = small_bpe_add(&bpe, "bb", WISP_TOKEN_USER), end = small_bpe_add(&bpe, "<|im_end|>", WISP_TOKEN_NORMAL);
  small_bpe_write(&bpe, &builder, "gpt-2", abc_merges, 4);
  cr_assert_eq(tokenizer_file_built(&file, &builder), WISP_OK, "%s", file.capture.error);
  EXPECT_IDS(file.tokenizer, "a<x>>c", WISP_TOKENIZE_SPECIAL, 'a', longer, 'c');
  EXPECT_IDS(file.tokenizer, "<x><x>", WISP_TOKENIZE_SPECIAL, turn, turn);
  EXPECT_IDS(file.tokenizer, "<x>", WISP_TOKENIZE_PLAIN, '<', 'x', '>');
  EXPECT_IDS(file.tokenizer, "abbc", WISP_TOKENIZE_PLAIN, 'a', user, 'c');
  EXPECT_IDS(file.tokenizer, "<|im_end|>", WISP_TOKENIZE_SPECIAL, end);
  cr_assert(wisp_tokenizer_is_end(file.tokenizer, end));
  cr_assert_not(wisp_tokenizer_is_end(file.tokenizer, turn));

  char text[16];
  cr_assert_eq(wisp_tokenizer_bytes(file.tokenizer, turn, false, text, sizeof text), 0u);
  cr_assert_eq(wisp_tokenizer_bytes(file.tokenizer, turn, true, text, sizeof text), 3u);
  cr_assert_arr_eq(text, "<x>", 3);
  cr_assert_eq(wisp_tokenizer_bytes(file.tokenizer, user, false, text, sizeof text), 2u);
  cr_assert_eq(wisp_tokenizer_bytes(file.tokenizer, -1, true, text, sizeof text), 0u);
  cr_assert_eq(wisp_tokenizer_bytes(file.tokenizer, (int32_t)bpe.count, true, text, sizeof text), 0u);
  tokenizer_file_close(&file);
}

Test(tokenizer, bos_and_eos_by_metadata_or_the_kind) {
  static const struct {
    const char *pre;
    int add_bos; /* -1 = absent */
    bool bos;
  } cases[] = {{"gpt-2", -1, false}, {"smollm", -1, false}, {"qwen2", -1, false},   {"llama-bpe", -1, true},
               {"llama3", -1, true}, {"gpt-2", 1, true},    {"llama-bpe", 0, false}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    small_bpe bpe;
    gguf_builder builder;
    tokenizer_file file;
    abc_vocabulary(&bpe);
    small_bpe_write(&bpe, &builder, cases[i].pre, abc_merges, 4);
    gguf_add_u32(&builder, "tokenizer.ggml.bos_token_id", 1);
    gguf_add_u32(&builder, "tokenizer.ggml.eos_token_id", 2);
    gguf_add_bool(&builder, "tokenizer.ggml.add_eos_token", true);
    if (cases[i].add_bos >= 0) gguf_add_bool(&builder, "tokenizer.ggml.add_bos_token", cases[i].add_bos);
    cr_assert_eq(tokenizer_file_built(&file, &builder), WISP_OK, "%s", file.capture.error);
    if (cases[i].bos) EXPECT_IDS(file.tokenizer, "abc", WISP_TOKENIZE_BOS_EOS, 1, 258, 2);
    if (!cases[i].bos) EXPECT_IDS(file.tokenizer, "abc", WISP_TOKENIZE_BOS_EOS, 258, 2);
    cr_assert(wisp_tokenizer_is_end(file.tokenizer, 2));
    tokenizer_file_close(&file);
  }
  tokenizer_file spm;
  tokenizer_file_path(&spm, WISP_TEST_DATA "/tokenizer_spm.gguf");
  EXPECT_IDS(spm.tokenizer, "", WISP_TOKENIZE_BOS_EOS, 1);
  tokenizer_file_close(&spm);
}

Test(tokenizer, spm_puts_a_space_behind_special_tokens_and_takes_it_back) {
  tokenizer_file file;
  tokenizer_file_path(&file, WISP_TEST_DATA "/tokenizer_spm.gguf");
  static const char *const texts[] = {"<s>the<s> the", "the</s><s>  of", "<s>", "the", " the", "  ", "a<unk>b"};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    check_round_trip(file.tokenizer, texts[i], strlen(texts[i]), WISP_TOKENIZE_SPECIAL);
  }
  int32_t ids[8], alone[8];
  size_t count, one;
  cr_assert_eq(wisp_tokenizer_encode(file.tokenizer, "<s>the", 6, WISP_TOKENIZE_SPECIAL, ids, 8, &count), WISP_OK);
  cr_assert_eq(wisp_tokenizer_encode(file.tokenizer, "the", 3, WISP_TOKENIZE_SPECIAL, alone, 8, &one), WISP_OK);
  cr_assert_eq(count, one + 1);
  cr_assert_arr_eq(ids + 1, alone, one * sizeof *ids);
  tokenizer_file_close(&file);
}

/* ---- Properties ---- */

static uint32_t next_random(uint64_t *state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(*state >> 33);
}

static void check_random_bytes(const wisp_tokenizer *tokenizer, unsigned flags) {
  uint64_t state = 7;
  for (int round = 0; round < 3000; round++) {
    char text[64];
    size_t size = next_random(&state) % sizeof text;
    uint32_t kind = next_random(&state) % 3; /* any byte, mostly ASCII, few characters */
    for (size_t i = 0; i < size; i++) {
      uint32_t r = next_random(&state);
      uint32_t mostly_ascii = r % 20 == 0 ? 128 + r / 32 % 128 : r / 32 % 128;
      text[i] = kind == 2 ? " abc\n'1\xC3\xA9"[r % 9] : (char)(kind == 1 ? mostly_ascii : r % 256);
    }
    check_round_trip(tokenizer, text, size, flags);
  }
}

Test(tokenizer, any_bytes_come_back_or_as_replacement) {
  small_bpe bpe;
  gguf_builder builder;
  tokenizer_file file;
  static const char *const pres[] = {"gpt-2", "smollm", "llama-bpe", "qwen2"};
  for (size_t i = 0; i < sizeof pres / sizeof *pres; i++) {
    abc_vocabulary(&bpe);
    small_bpe_write(&bpe, &builder, pres[i], abc_merges, 4);
    cr_assert_eq(tokenizer_file_built(&file, &builder), WISP_OK, "%s", file.capture.error);
    for (int byte = 0; byte < 256; byte++) cr_assert_geq(file.tokenizer->byte_ids[byte], 0);
    check_random_bytes(file.tokenizer, WISP_TOKENIZE_SPECIAL);
    tokenizer_file_close(&file);
  }
  tokenizer_file_path(&file, WISP_TEST_DATA "/tokenizer_spm.gguf");
  for (int byte = 0; byte < 256; byte++) cr_assert_geq(file.tokenizer->byte_ids[byte], 0);
  check_random_bytes(file.tokenizer, WISP_TOKENIZE_SPECIAL);
  tokenizer_file_close(&file);
  tokenizer_file_default_model(&file);
  check_random_bytes(file.tokenizer, WISP_TOKENIZE_PLAIN);
  tokenizer_file_close(&file);
}

Test(tokenizer, counts_what_does_not_fit) {
  tokenizer_file file;
  tokenizer_file_path(&file, WISP_TEST_DATA "/tokenizer_spm.gguf");
  const char text[] = "the terms and conditions";
  int32_t all[32], some[32] = {0};
  size_t count, again, size;
  cr_assert_eq(wisp_tokenizer_encode(file.tokenizer, text, strlen(text), 0, all, 32, &count), WISP_OK);
  cr_assert_gt(count, 3u);
  cr_assert_eq(wisp_tokenizer_encode(file.tokenizer, text, strlen(text), 0, some, 2, &again), WISP_OK);
  cr_assert_eq(again, count);
  cr_assert_arr_eq(some, all, 2 * sizeof *all);
  cr_assert_eq(some[2], 0);
  cr_assert_eq(wisp_tokenizer_encode(file.tokenizer, text, strlen(text), 0, NULL, 0, &again), WISP_OK);
  cr_assert_eq(again, count);
  cr_assert_eq(wisp_tokenizer_encode(file.tokenizer, NULL, 0, 0, NULL, 0, &again), WISP_OK);
  cr_assert_eq(again, 0u);

  char back[8] = "-------";
  cr_assert_eq(wisp_tokenizer_decode(file.tokenizer, all, count, false, back, 5, &size), WISP_OK);
  cr_assert_eq(size, strlen(text));
  cr_assert_str_eq(back, "the t--");
  cr_assert_eq(wisp_tokenizer_decode(file.tokenizer, (const int32_t[]){1 << 30}, 1, false, back, 5, &size),
               WISP_ERROR_ARGUMENT);
  cr_assert_eq(file.capture.errors, 1u);
  tokenizer_file_close(&file);
}

Test(tokenizer, long_words_take_no_quadratic_time, .timeout = 60) {
  tokenizer_file file;
  enum { LONG = 300000 };
  char *text = malloc(LONG), *back = malloc(LONG);
  int32_t *ids = malloc(LONG * sizeof *ids);
  for (int spm = 0; spm < 2; spm++) {
    if (spm) tokenizer_file_path(&file, WISP_TEST_DATA "/tokenizer_spm.gguf");
    if (!spm) tokenizer_file_default_model(&file);
    for (int letters = 0; letters < 2; letters++) {
      size_t count, size;
      for (size_t i = 0; i < LONG; i++) text[i] = letters ? (char)('a' + i * i % 7) : ' ';
      cr_assert_eq(wisp_tokenizer_encode(file.tokenizer, text, LONG, 0, ids, LONG, &count), WISP_OK);
      cr_assert_leq(count, (size_t)LONG);
      cr_assert_eq(wisp_tokenizer_decode(file.tokenizer, ids, count, false, back, LONG, &size), WISP_OK);
      cr_assert_eq(size, (size_t)LONG);
      cr_assert_arr_eq(back, text, LONG);
    }
    tokenizer_file_close(&file);
  }
  free(text);
  free(back);
  free(ids);
}

/* ---- Bad files ---- */

static void expect_refusal(gguf_builder *builder, wisp_status status, const char *words) {
  tokenizer_file file;
  wisp_status found = tokenizer_file_built(&file, builder);
  cr_expect_eq(found, status, "expected \"%s\", got status %d: %s", words, (int)found, file.capture.error);
  cr_expect_not_null(strstr(file.capture.error, words), "expected \"%s\", got \"%s\"", words, file.capture.error);
  cr_expect_eq(file.capture.errors, 1u);
  cr_expect_null(file.tokenizer);
  tokenizer_file_close(&file);
}

typedef enum bpe_fault {
  UNKNOWN_PRE,
  DUPLICATE,
  MERGE_UNKNOWN,
  MERGE_NO_SPACE,
  TYPE_RANGE,
  EOS_RANGE,
  BOS_MISSING,
  NO_MERGES,
  MERGES_NOT_STRINGS,
  FAULTS
} bpe_fault;

static void write_faulty(gguf_builder *builder, bpe_fault fault) {
  static const char *const unknown[] = {"b c", "a zz"}, *const no_space[] = {"bc"};
  small_bpe bpe;
  abc_vocabulary(&bpe);
  if (fault == DUPLICATE) small_bpe_add(&bpe, "abc", WISP_TOKEN_NORMAL);
  if (fault == TYPE_RANGE) bpe.types[7] = 99;
  if (fault == NO_MERGES || fault == MERGES_NOT_STRINGS) {
    gguf_begin(builder);
    gguf_add_string(builder, "tokenizer.ggml.model", "gpt2");
    gguf_add_string(builder, "tokenizer.ggml.pre", "gpt-2");
    gguf_add_strings(builder, "tokenizer.ggml.tokens", bpe.tokens, bpe.count);
    if (fault == MERGES_NOT_STRINGS) gguf_add_array(builder, "tokenizer.ggml.merges", WISP_GGUF_I32, bpe.types, 4);
    return;
  }
  const char *const *merges = fault == MERGE_UNKNOWN ? unknown : fault == MERGE_NO_SPACE ? no_space : abc_merges;
  small_bpe_write(&bpe, builder, fault == UNKNOWN_PRE ? "martian" : "gpt-2", merges, fault == MERGE_UNKNOWN ? 2 : 1);
  if (fault == EOS_RANGE) gguf_add_u32(builder, "tokenizer.ggml.eos_token_id", bpe.count);
}

Test(tokenizer, bad_bpe_files_are_refused_by_name) {
  static const struct {
    bpe_fault fault;
    wisp_status status;
    const char *words;
  } cases[] = {
      {UNKNOWN_PRE, WISP_ERROR_UNSUPPORTED,
       "unknown pre-tokenizer \"martian\" (tokenizer.ggml.pre); known: gpt-2, smollm, llama-bpe, qwen2"},
      {DUPLICATE, WISP_ERROR_FORMAT, "tokens 258 and 259 of tokenizer.ggml.tokens have the same text \"abc\""},
      {MERGE_UNKNOWN, WISP_ERROR_FORMAT, "tokenizer.ggml.merges[1] \"a zz\""},
      {MERGE_NO_SPACE, WISP_ERROR_FORMAT, "tokenizer.ggml.merges[0] \"bc\""},
      {TYPE_RANGE, WISP_ERROR_FORMAT, "token 7 has type 99"},
      {EOS_RANGE, WISP_ERROR_FORMAT, "tokenizer.ggml.eos_token_id is 259, but the vocabulary has 259 tokens"},
      {NO_MERGES, WISP_ERROR_FORMAT, "tokenizer.ggml.merges must be an array of strings"},
      {MERGES_NOT_STRINGS, WISP_ERROR_FORMAT, "tokenizer.ggml.merges must be an array of strings"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    gguf_builder builder;
    write_faulty(&builder, cases[i].fault);
    expect_refusal(&builder, cases[i].status, cases[i].words);
  }
}

static const char *const spm_tokens[] = {"<unk>", "<s>", "</s>", "<0x41>", "\xE2\x96\x81", "b", "bb"};
static const int32_t spm_types[] = {2, 3, 3, 6, 1, 1, 1};
static const float spm_scores[] = {0, 0, 0, 0, -1, -2, -3};

static void write_spm(gguf_builder *builder, uint64_t tokens, uint64_t types, uint64_t scores) {
  gguf_begin(builder);
  gguf_add_string(builder, "tokenizer.ggml.model", "llama");
  if (tokens > 0) gguf_add_strings(builder, "tokenizer.ggml.tokens", spm_tokens, tokens);
  if (types > 0) gguf_add_array(builder, "tokenizer.ggml.token_type", WISP_GGUF_I32, spm_types, types);
  if (scores > 0) gguf_add_array(builder, "tokenizer.ggml.scores", WISP_GGUF_F32, spm_scores, scores);
}

Test(tokenizer, bad_spm_files_are_refused_by_name) {
  gguf_builder builder;
  write_spm(&builder, 7, 7, 6);
  expect_refusal(&builder, WISP_ERROR_FORMAT, "tokenizer.ggml.scores must be an array of 7 elements, one a token, found 6");
  write_spm(&builder, 7, 7, 0);
  expect_refusal(&builder, WISP_ERROR_FORMAT, "missing key tokenizer.ggml.scores");
  write_spm(&builder, 7, 5, 7);
  expect_refusal(&builder, WISP_ERROR_FORMAT, "tokenizer.ggml.token_type must be an array of 7 elements, one a token, found 5");
  write_spm(&builder, 0, 0, 0);
  expect_refusal(&builder, WISP_ERROR_FORMAT, "tokenizer.ggml.tokens must be an array");
  write_spm(&builder, 1, 1, 1); /* no room for the default bos 1 */
  expect_refusal(&builder, WISP_ERROR_FORMAT, "add_bos_token is set, but there is no bos_token_id");
  write_spm(&builder, 7, 7, 7);
  gguf_add_array(&builder, "tokenizer.ggml.bos_token_id", WISP_GGUF_I32, spm_types, 1);
  expect_refusal(&builder, WISP_ERROR_FORMAT, "tokenizer.ggml.bos_token_id");
  gguf_begin(&builder);
  gguf_add_string(&builder, "tokenizer.ggml.model", "bert");
  expect_refusal(&builder, WISP_ERROR_UNSUPPORTED, "unknown kind of tokenizer \"bert\"");

  static const char *const tokens[] = {"<unk>", "<s>", "</s>", "oops"};
  gguf_begin(&builder);
  gguf_add_string(&builder, "tokenizer.ggml.model", "llama");
  gguf_add_strings(&builder, "tokenizer.ggml.tokens", tokens, 4);
  gguf_add_array(&builder, "tokenizer.ggml.token_type", WISP_GGUF_I32, spm_types, 4);
  gguf_add_array(&builder, "tokenizer.ggml.scores", WISP_GGUF_F32, spm_scores, 4);
  expect_refusal(&builder, WISP_ERROR_FORMAT, "byte token 3 is \"oops\"");
}

Test(tokenizer, missing_bytes_become_the_unknown_token) {
  gguf_builder builder;
  tokenizer_file file;
  write_spm(&builder, 7, 7, 7);
  cr_assert_eq(tokenizer_file_built(&file, &builder), WISP_OK, "%s", file.capture.error);
  EXPECT_IDS(file.tokenizer, "Abb bz", 0, 4, 3, 6, 4, 5, 0);
  EXPECT_IDS(file.tokenizer, "\xC3\xA9", 0, 4, 0, 0);
  EXPECT_IDS(file.tokenizer, "<s>b", 0, 4, 0, 0, 0, 5); /* no control token from plain text */
  tokenizer_file_close(&file);
}

Test(tokenizer, a_file_without_a_tokenizer_has_none) {
  gguf_builder builder;
  tokenizer_file file;
  gguf_begin(&builder);
  gguf_add_string(&builder, "general.architecture", "llama");
  cr_assert_eq(tokenizer_file_built(&file, &builder), WISP_OK);
  cr_assert_null(file.tokenizer);
  tokenizer_file_close(&file);
}

Test(tokenizer, default_pre_is_gpt2_with_a_warning) {
  small_bpe bpe;
  gguf_builder builder;
  tokenizer_file file;
  for (int named = 0; named < 2; named++) {
    abc_vocabulary(&bpe);
    small_bpe_write(&bpe, &builder, named ? "default" : NULL, abc_merges, 4);
    cr_assert_eq(tokenizer_file_built(&file, &builder), WISP_OK, "%s", file.capture.error);
    cr_assert_str_eq(file.tokenizer->pretokenizer->name, "gpt-2");
    cr_assert_eq(file.capture.warnings, 1u);
    tokenizer_file_close(&file);
  }
}

Test(tokenizer, every_failed_allocation_is_reported) {
  for (int spm = 0; spm < 2; spm++) {
    unsigned failures = 0;
    for (unsigned at = 1;; at++) {
      tokenizer_file file;
      gguf_builder builder;
      small_bpe bpe;
      abc_vocabulary(&bpe);
      small_bpe_add(&bpe, "<x>", WISP_TOKEN_CONTROL);
      if (spm) write_spm(&builder, 7, 7, 7);
      if (!spm) small_bpe_write(&bpe, &builder, "llama-bpe", abc_merges, 4);
      cr_assert_eq(tokenizer_file_built(&file, &builder), WISP_OK, "%s", file.capture.error);
      wisp_tokenizer_destroy(&file.tokenizer);

      int32_t ids[16];
      size_t count = 99;
      file.capture.fail_at = file.capture.allocations + at;
      wisp_status status = wisp_tokenizer_create(&file.tokenizer, &file.host, &file.gguf);
      if (status == WISP_OK) status = wisp_tokenizer_encode(file.tokenizer, "abcb", 4, 0, ids, 16, &count);
      bool done = file.capture.allocations < file.capture.fail_at;
      cr_assert_eq(status, done ? WISP_OK : WISP_ERROR_MEMORY);
      cr_assert_eq(file.capture.errors, done ? 0u : 1u);
      if (!done && file.tokenizer) cr_assert_eq(count, 0u);
      tokenizer_file_close(&file);
      if (done) break;
      failures++;
    }
    cr_assert_geq(failures, 6u);
  }
}
