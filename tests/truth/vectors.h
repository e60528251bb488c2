/* SPDX-License-Identifier: Apache-2.0
 * The reference vectors of this folder, read. README.md describes the files. A file that is not as described ends the program
 * with a line that says where. */
#ifndef WISP_TRUTH_VECTORS_H
#define WISP_TRUTH_VECTORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Some logits of one position; an id may occur twice. */
typedef struct truth_row {
  uint32_t position; /* in the prompt */
  uint32_t count;
  uint32_t *ids; /* [count] */
  float *logits; /* [count] */
} truth_row;

/* The largest logits from which each token was chosen, largest first. */
typedef struct truth_choices {
  uint32_t count, width;
  int32_t *ids;  /* [count][width] */
  float *logits; /* [count][width] */
} truth_choices;

/* What one program made of a prompt. */
typedef struct truth_run {
  uint32_t count;
  int32_t *ids; /* [count]: greedy; where it stopped early, the end token is the last */
  truth_choices choices;
  uint32_t row_count;
  truth_row *rows; /* [row_count] */
} truth_run;

typedef struct truth_prompt {
  const char *id, *text, *formatted;
  bool chat;
  uint32_t count;
  int32_t *ids;                       /* [count]: of formatted */
  truth_run llamacpp, float32, exact; /* llama.cpp on the file, on a float32 copy; NumPy in float64 */
} truth_prompt;

typedef struct truth_perplexity {
  uint32_t window, first_scored, windows, scored;
  double ppl, standard_error;
  double *mean_nll; /* [windows] */
} truth_perplexity;

typedef struct truth_vectors {
  uint32_t prompt_count;
  truth_prompt *prompts;
  uint32_t text_count;
  int32_t *text_ids; /* [text_count]: of text.txt, windows * window are used */
  truth_perplexity llamacpp, exact;
  void *documents[3]; /* private */
} truth_vectors;

void truth_vectors_open(truth_vectors *v, const char *folder);
void truth_vectors_close(truth_vectors *v);

#endif
