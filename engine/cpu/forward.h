/* SPDX-License-Identifier: Apache-2.0
 * The forward pass on the CPU: walks the plan's op list for a chunk of tokens of one timeline. */
#ifndef WISP_CPU_FORWARD_H
#define WISP_CPU_FORWARD_H

#include <stdatomic.h>

#include "cpu/weights.h"

enum { WISP_CPU_CHUNK = 96 }; /* tokens at once: enough to pay for unpacking weights, few enough for the caches */

typedef struct wisp_cpu_pass {
  const wisp_plan *plan;
  const wisp_cpu_kernels *kernels;
  const wisp_cpu_weights *weights;
  wisp_threads *threads;
  const atomic_int *cancel; /* NULL = never */
  wisp_observe_fn *observe; /* NULL = nobody looks */
  void *observe_user;

  uint8_t *cache; /* [kv_slots][context]rows as in model/kv.h */
  wisp_kv_type kv_type;
  uint32_t context;
  float *turns; /* [context][head_size / 2] (cos, sin) */

  /* Scratch; chunk = min(context, WISP_CPU_CHUNK) */
  float *x;         /* [chunk][width]: the residual stream */
  float *normed;    /* [chunk][width] */
  float *q;         /* [chunk][heads * head_size] */
  float *kv;        /* [chunk][K: kv_width | V: kv_width] */
  float *attended;  /* [chunk][heads * head_size] */
  float *projected; /* [chunk][width] */
  float *gate, *up; /* [chunk][ffn_width] */
  float *steps;     /* [chunk]: of w8a8's inputs, which are whole multiples of it */
  wisp_codes codes; /* of what a matrix is multiplied with: [chunk][the longest row] */
  float *rows;      /* [threads][row_floats]: WISP_MATMUL_ROWS dequantised rows for each thread */
  size_t row_floats;
  float *scores; /* [threads][score_floats]: of the query heads that share K and V, or wisp_prompt_scratch */
  size_t score_floats;

  /* The chunk: */
  const int32_t *ids; /* [count] */
  uint32_t count;     /* <= chunk */
  uint32_t position;  /* of ids[0] */
  uint32_t wanted;    /* logits for columns [wanted, count) */
  float *logits;      /* [count - wanted][vocabulary] */
} wisp_cpu_pass;

/* Fills the cache at positions [position, position + count), and logits. CANCELLED (not logged) between ops, logits untouched.
 */
wisp_status wisp_cpu_forward(const wisp_cpu_pass *pass);

#endif
