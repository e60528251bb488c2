/* SPDX-License-Identifier: Apache-2.0
 * Fuzzes the tokenizer: whatever the vocabulary, it is refused once or turns any text into ids of its own and back.
 *
 * With libFuzzer (clang -fsanitize=fuzzer,address): LLVMFuzzerTestOneInput, best with tests/data/tokenizer_spm.gguf to start
 * from. With -DWISP_FUZZ_STANDALONE a program of its own: wisp-fuzz-tokenizer [iterations [seed]] runs mutations of built-in
 * files. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizer/chat.h"
#include "tokenizer/tokenizer.h"
#include "unit/capture.h"
#include "unit/gguf_builder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok, const char *what) {
  if (ok) return;
  fprintf(stderr, "fuzz_tokenizer: violated: %s\n", what);
  abort();
}

static void use(const wisp_tokenizer *tokenizer, const char *text, size_t size, unsigned flags) {
  enum { ROOM = 1024 };
  int32_t ids[ROOM];
  char back[ROOM];
  size_t count, length;
  require(wisp_tokenizer_encode(tokenizer, text, size, flags, ids, ROOM, &count) == WISP_OK, "every text has ids");
  if (count > ROOM) count = ROOM;
  for (size_t i = 0; i < count; i++) {
    require(ids[i] >= 0 && (uint32_t)ids[i] < wisp_tokenizer_vocabulary(tokenizer), "ids are of the vocabulary");
  }
  require(wisp_tokenizer_decode(tokenizer, ids, count, true, back, ROOM, &length) == WISP_OK, "its ids are text");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const char text[] = "The licence's 12 terms:\n\t<s>abc \xC3\xA9\xFF<|im_start|>";
  static char name[] = "fuzz";
  capture said;
  wisp_host host = capture_host(&said);
  wisp_gguf gguf;
  wisp_tokenizer *tokenizer = NULL;
  wisp_status status = wisp_gguf_open(&gguf, &host, &(wisp_bytes){.data = data, .size = size, .name = name});
  if (status == WISP_OK) status = wisp_tokenizer_create(&tokenizer, &host, &gguf);
  require(said.errors == (status == WISP_OK ? 0 : 1), "one line for a failure, none otherwise");
  if (tokenizer) {
    wisp_chat_choose(&gguf);
    for (unsigned flags = 0; flags < 4; flags++) use(tokenizer, text, sizeof text, flags);
    use(tokenizer, (const char *)data, size < 2048 ? size : 2048, WISP_TOKENIZE_SPECIAL);
  }
  bool read = tokenizer != NULL;
  wisp_tokenizer_destroy(&tokenizer);
  wisp_gguf_close(&gguf);
  require(said.live == 0, "nothing stays allocated");
  return read ? 0 : -1;
}

#ifdef WISP_FUZZ_STANDALONE

static uint64_t next_random(uint64_t *state) { /* xorshift64* */
  *state ^= *state >> 12;
  *state ^= *state << 25;
  *state ^= *state >> 27;
  return *state * 0x2545f4914f6cdd1d;
}

static uint8_t *build(bool bpe, size_t *size) {
  static const char *const words[] = {"<unk>",
                                      "<s>",
                                      "</s>",
                                      "<0x0A>",
                                      "a",
                                      "b",
                                      "c",
                                      "bc",
                                      "abc",
                                      "<|im_start|>",
                                      "\xC4\xA0",
                                      "\xE2\x96\x81",
                                      ("\xE2\x96\x81"
                                       "a"),
                                      "1",
                                      "12"};
  enum { COUNT = sizeof words / sizeof *words };
  int32_t types[COUNT] = {2, 3, 3, 6, 1, 1, 1, 1, 1, 4, 1, 1, 1, 1, 1};
  float scores[COUNT];
  for (int i = 0; i < COUNT; i++) scores[i] = (float)-i;
  gguf_builder b;
  gguf_begin(&b);
  gguf_add_string(&b, "tokenizer.ggml.model", bpe ? "gpt2" : "llama");
  gguf_add_strings(&b, "tokenizer.ggml.tokens", words, COUNT);
  gguf_add_array(&b, "tokenizer.ggml.token_type", WISP_GGUF_I32, types, COUNT);
  if (bpe) gguf_add_string(&b, "tokenizer.ggml.pre", "llama-bpe");
  if (bpe) gguf_add_strings(&b, "tokenizer.ggml.merges", (const char *const[]){"b c", "a bc", "1 2"}, 2);
  if (!bpe) gguf_add_array(&b, "tokenizer.ggml.scores", WISP_GGUF_F32, scores, COUNT);
  gguf_add_u32(&b, "tokenizer.ggml.bos_token_id", 1);
  gguf_add_u32(&b, "tokenizer.ggml.eos_token_id", 2);
  gguf_add_bool(&b, "tokenizer.ggml.add_eos_token", true);
  gguf_add_string(&b, "tokenizer.chat_template", "<|im_start|>");
  uint8_t *bytes = gguf_finish(&b, size);
  gguf_end(&b);
  return bytes;
}

/* Mostly small values, since they are what types, ids, counts and lengths are made of. */
static void mutate(uint8_t *bytes, size_t size, uint64_t *random) {
  for (uint64_t changes = 1 + next_random(random) % 4; changes; changes--) {
    size_t at = next_random(random) % size, from = next_random(random) % size, length = 1 + next_random(random) % 8;
    if (length > size - at) length = size - at;
    if (length > size - from) length = size - from;
    switch (next_random(random) % 4) {
    case 0:
      bytes[at] ^= (uint8_t)(1 << next_random(random) % 8);
      break;
    case 1:
      bytes[at] = (uint8_t)next_random(random);
      break;
    case 2:
      bytes[at] = (uint8_t)(next_random(random) % 20);
      break;
    case 3:
      memmove(bytes + at, bytes + from, length);
      break;
    }
  }
}

int main(int argc, char **argv) {
  uint64_t iterations = argc > 1 ? strtoull(argv[1], NULL, 10) : 20000;
  uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1, random = seed * 2 + 1, read = 0;
  for (int bpe = 0; bpe < 2; bpe++) {
    size_t size;
    uint8_t *original = build(bpe, &size), *copy = malloc(size);
    if (!copy) abort();
    require(LLVMFuzzerTestOneInput(original, size) == 0, "the built-in file is read");
    for (uint64_t i = 0; i < iterations; i++) {
      memcpy(copy, original, size);
      mutate(copy, size, &random);
      read += LLVMFuzzerTestOneInput(copy, size) == 0;
    }
    free(original);
    free(copy);
  }
  printf("fuzz_tokenizer: %llu inputs from seed %llu, %llu read, the rest refused\n", (unsigned long long)(2 * iterations),
         (unsigned long long)seed, (unsigned long long)read);
  return 0;
}

#endif
