/* SPDX-License-Identifier: Apache-2.0
 * Fuzzes the reader of torch.save files: zip archive and pickle. With libFuzzer: LLVMFuzzerTestOneInput; with
 * -DWISP_FUZZ_STANDALONE a program of its own: wisp-fuzz-pickle [iterations [seed]]. */
#include "checkpoint_target.h"
#include "mutations.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  return check_reader(wisp_torch_read, data, size);
}

#ifdef WISP_FUZZ_STANDALONE
int main(int argc, char **argv) {
  return run_mutations("fuzz_pickle", torch_blob, argc, argv);
}
#endif
