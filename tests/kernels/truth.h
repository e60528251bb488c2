/* SPDX-License-Identifier: Apache-2.0
 * Inputs of a shape's ops and what the C reference makes of them, with how far a kernel may be off. */
#ifndef WISP_CHECKER_TRUTH_H
#define WISP_CHECKER_TRUTH_H

#include "bed.h"

typedef enum region_kind {
  REGION_FLOATS,
  REGION_HALVES, /* two a word */
  REGION_ROWS,   /* of a KV cache of q8_0 */
  REGION_WORDS,  /* equal bit for bit */
  REGION_ANY     /* checked elsewhere */
} region_kind;

/* A run of words that the op writes. All others must stay as they were. A value may differ from expected by bound * magnitude:
 * magnitude is the sum of |w * x| behind it, bound what rounding makes of one unit of that. */
typedef struct region {
  const char *name;
  bed_buffer buffer;
  region_kind kind;
  uint32_t first, count; /* words */
  uint32_t width;        /* ROWS: kv_width */
  float *expected;       /* FLOATS [count], HALVES [2 * count], ROWS [rows][2 * width] */
  float *magnitude;      /* likewise */
  uint32_t *words;       /* WORDS [count] */
  float bound;
  float factor; /* HALVES: what a half stands for times it */
} region;

enum { REGIONS = 32 };

typedef struct truth {
  bed *bed;
  bool broken;                          /* expects what one wrong weight, cached value or candidate would give */
  uint32_t pool;                        /* columns of input and results below */
  float *x, *query, *attended, *hidden; /* [pool][width | q | q | ffn] */
  float *results[WISP_OP_SAMPLE];       /* [pool][rows of op]: qkv before RoPE; the sums only for the residual ops; head */
  float *magnitudes[WISP_OP_SAMPLE];
  float *rope;               /* [context][head_size / 2] of (cos, sin) */
  float *cached;             /* KV rows [context] as floats */
  uint8_t *slot;             /* KV rows [context], as cached */
  uint8_t *expected_slot;    /* the same, unless broken */
  int32_t *ids;              /* [context + 1] */
  float *candidates;         /* pairs [logit_columns][candidate_stride] */
  uint32_t candidate_stride; /* the largest of all modes */
  float *arena;              /* of the regions' values */
  size_t arena_size, arena_used;
  float *scratch;
  region regions[REGIONS];
  uint32_t region_count;
  void *owned[32];
  uint32_t owned_count;
} truth;

/* bed must stay. broken changes a weight of each of bed's matrices on the host. */
wisp_status truth_open(truth *truth, bed *bed, bool broken, uint64_t *random);
void truth_close(truth *truth);

/* Fills bed->before with the run's inputs and poison, and the regions with what must come of it. */
void truth_expect(truth *truth, const bed_run *run);

/* Element i of a row of the KV cache. */
float truth_cached(const void *row, uint32_t kv_width, wisp_kv_type type, uint32_t i);

/* Whether the run is a qkv that leaves K and V as floats in activations.hidden, for kv_store. */
bool truth_stages(const truth *truth, const bed_run *run);

typedef struct verdict {
  bool ok;
  double error;    /* the largest of |difference| / magnitude */
  double of_bound; /* the largest of |difference| / what is allowed */
  char text[256];  /* the first thing that is wrong */
} verdict;

/* Compares what the run left behind with the regions. */
verdict truth_judge(const truth *truth, const bed_run *run);

#endif
