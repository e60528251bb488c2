/* SPDX-License-Identifier: Apache-2.0
 * Fuzzes the GGUF reader: whatever the bytes, it says no once or gives tables that can be walked from end to end.
 *
 * With libFuzzer (clang -fsanitize=fuzzer,address): LLVMFuzzerTestOneInput. With -DWISP_FUZZ_STANDALONE a program of its own:
 *   wisp-fuzz-gguf [iterations [seed [FILE...]]]   runs the FILEs as they are, then mutations of a built-in one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/gguf.h"
#include "unit/capture.h"
#include "unit/gguf_builder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok, const char *what) {
  if (ok) return;
  fprintf(stderr, "fuzz_gguf: violated: %s\n", what);
  abort();
}

static uint64_t sum_bytes(const void *bytes, uint64_t size) {
  uint64_t sum = 0;
  for (uint64_t i = 0; i < size; i++) sum += ((const uint8_t *)bytes)[i];
  return sum;
}

static volatile uint64_t touched; /* so that no read is optimised away */

/* Touches every byte that the tables point to. */
static void walk(const wisp_gguf *gguf) {
  uint64_t sum = 0;
  char name[65537];
  for (uint64_t i = 0; i < gguf->entry_count; i++) {
    const wisp_gguf_entry *entry = &gguf->entries[i];
    memcpy(name, entry->key.bytes, entry->key.size);
    name[entry->key.size] = 0;
    require(wisp_gguf_find(gguf, name) == entry || strlen(name) != entry->key.size, "every key is found");
    for (uint64_t k = 0; k < entry->count; k++) {
      if (entry->element == WISP_GGUF_STRING) {
        sum += sum_bytes(entry->strings[k].bytes, entry->strings[k].size);
      } else {
        sum += (uint64_t)wisp_gguf_array_integer(entry, k) + (wisp_gguf_array_float(entry, k) > 0);
      }
    }
    wisp_gguf_u32(gguf, name, false, &(uint32_t){0});
    wisp_gguf_f32(gguf, name, false, &(float){0});
    wisp_gguf_bool(gguf, name, false, &(bool){0});
    wisp_gguf_string(gguf, name, false, &(wisp_text){0});
  }
  for (uint64_t i = 0; i < gguf->tensor_count; i++) {
    const wisp_gguf_tensor *tensor = &gguf->tensors[i];
    memcpy(name, tensor->name.bytes, tensor->name.size);
    name[tensor->name.size] = 0;
    require(wisp_gguf_find_tensor(gguf, name) == tensor || strlen(name) != tensor->name.size, "every tensor is found");
    sum += sum_bytes(tensor->data, tensor->bytes);
    float weights[256];
    tensor->type->dequantize(tensor->data, weights, tensor->type->block_weights);
  }
  touched = sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  capture said;
  wisp_host host = capture_host(&said);
  static char name[] = "fuzz";
  wisp_gguf gguf;
  wisp_status status = wisp_gguf_open(&gguf, &host, &(wisp_bytes){.data = data, .size = size, .name = name});
  require(said.errors == (status == WISP_OK ? 0 : 1), "one line for a failure, none otherwise");
  require(said.largest <= 16 * size + 4096, "memory is bounded by the size of the file");
  if (status == WISP_OK) walk(&gguf);
  wisp_gguf_close(&gguf);
  require(said.live == 0, "nothing stays allocated");
  return status == WISP_OK ? 0 : -1; /* libFuzzer keeps only what was read to its end as new inputs */
}

#ifdef WISP_FUZZ_STANDALONE

static uint64_t next_random(uint64_t *state) { /* xorshift64* */
  *state ^= *state >> 12;
  *state ^= *state << 25;
  *state ^= *state >> 27;
  return *state * 0x2545f4914f6cdd1d;
}

static void build_seed(gguf_builder *b) {
  gguf_begin(b);
  gguf_add_string(b, "general.architecture", "llama");
  gguf_add_u32(b, "general.alignment", 32);
  gguf_add_u32(b, "llama.block_count", 2);
  gguf_add_f32(b, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
  gguf_add_bool(b, "tokenizer.ggml.add_bos_token", true);
  gguf_add_scalar(b, "u64", WISP_GGUF_U64, &(uint64_t){1});
  gguf_add_scalar(b, "f64", WISP_GGUF_F64, &(double){1});
  gguf_add_strings(b, "tokenizer.ggml.tokens", (const char *const[]){"a", "bc", ""}, 3);
  gguf_add_array(b, "tokenizer.ggml.scores", WISP_GGUF_F32, (float[]){0, -1, -2}, 3);
  gguf_add_array(b, "tokenizer.ggml.token_type", WISP_GGUF_I32, (int32_t[]){1, 1, 3}, 3);
  static const wisp_dtype types[] = {WISP_F32, WISP_F16, WISP_BF16, WISP_Q4_0, WISP_Q5_1, WISP_Q8_0, WISP_Q4_K, WISP_Q6_K};
  for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
    char name[32];
    snprintf(name, sizeof name, "blk.%zu.weight", i);
    gguf_add_tensor(b, name, types[i], 2, (uint64_t[]){types[i] == WISP_F32 ? 3 : 256, 2}, NULL);
  }
}

/* Changes 1 to 4 places; header and tables, being the larger danger, more often than data. Returns the new size. */
static size_t mutate(uint8_t *bytes, size_t size, size_t tables, uint64_t *random) {
  static const uint64_t interesting[] = {0,          1,
                                         2,          3,
                                         8,          9,
                                         12,         13,
                                         31,         32,
                                         255,        65535,
                                         65536,      INT32_MAX,
                                         UINT32_MAX, (uint64_t)1 << 32,
                                         INT64_MAX,  UINT64_MAX - 31,
                                         UINT64_MAX};
  for (uint64_t changes = 1 + next_random(random) % 4; changes; changes--) {
    size_t at = next_random(random) % (next_random(random) % 8 ? tables : size);
    uint64_t value = interesting[next_random(random) % (sizeof interesting / sizeof *interesting)];
    switch (next_random(random) % 6) {
    case 0:
      bytes[at] ^= (uint8_t)(1 << next_random(random) % 8);
      break;
    case 1:
      bytes[at] = (uint8_t)next_random(random);
      break;
    case 2:
      bytes[at] = (uint8_t)value;
      break;
    case 3:
      memcpy(bytes + at, &value, size - at < 4 ? size - at : 4);
      break;
    case 4:
      memcpy(bytes + at, &value, size - at < 8 ? size - at : 8);
      break;
    case 5: /* the bytes of one place in another */
      memmove(bytes + at, bytes + next_random(random) % (size / 2), size - at < 40 ? (size - at) / 2 : 20);
      break;
    }
  }
  return next_random(random) % 16 ? size : next_random(random) % size;
}

static int run_file(const char *path) {
  FILE *file = fopen(path, "rb");
  if (!file) {
    perror(path);
    return 1;
  }
  fseek(file, 0, SEEK_END);
  size_t size = (size_t)ftell(file);
  rewind(file);
  uint8_t *bytes = malloc(size ? size : 1);
  bool ok = bytes && fread(bytes, 1, size, file) == size;
  if (ok) printf("%s: %s\n", path, LLVMFuzzerTestOneInput(bytes, size) == 0 ? "read" : "refused");
  free(bytes);
  fclose(file);
  return !ok;
}

int main(int argc, char **argv) {
  uint64_t iterations = argc > 1 ? strtoull(argv[1], NULL, 10) : 20000;
  uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1, random = seed * 2 + 1;
  int failed = 0;
  for (int i = 3; i < argc; i++) failed |= run_file(argv[i]);

  gguf_builder builder;
  build_seed(&builder);
  size_t size;
  uint8_t *original = gguf_finish(&builder, &size);
  size_t tables = size - builder.data.size;
  gguf_end(&builder);
  require(LLVMFuzzerTestOneInput(original, size) == 0, "the built-in file is read");

  uint64_t read = 0;
  for (uint64_t i = 0; i < iterations; i++) {
    uint8_t *copy = malloc(size);
    if (!copy) abort();
    memcpy(copy, original, size);
    size_t cut = mutate(copy, size, tables, &random);
    uint8_t *exact = malloc(cut ? cut : 1); /* so that one byte too far is seen */
    if (!exact) abort();
    memcpy(exact, copy, cut);
    read += LLVMFuzzerTestOneInput(exact, cut) == 0;
    free(exact);
    free(copy);
  }
  free(original);
  printf("fuzz_gguf: %llu inputs from seed %llu, %llu read, the rest refused\n", (unsigned long long)iterations,
         (unsigned long long)seed, (unsigned long long)read);
  return failed;
}

#endif
