/* SPDX-License-Identifier: Apache-2.0
 * Fuzzes the safetensors reader. With libFuzzer: LLVMFuzzerTestOneInput; with -DWISP_FUZZ_STANDALONE a program of its own:
 * wisp-fuzz-safetensors [iterations [seed]]. */
#include "checkpoint_target.h"
#include "mutations.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  return check_reader(wisp_safetensors_read, data, size);
}

#ifdef WISP_FUZZ_STANDALONE
static blob build(void) {
  return safetensors_blob("{\"__metadata__\":{\"format\":\"pt\"},"
                          "\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
                          "\"b\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[24,32]},"
                          "\"c\":{\"dtype\":\"F16\",\"shape\":[],\"data_offsets\":[32,34]}}",
                          34);
}

int main(int argc, char **argv) {
  return run_mutations("fuzz_safetensors", build, argc, argv);
}
#endif
