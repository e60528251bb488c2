/* SPDX-License-Identifier: Apache-2.0
 * A shape on the device: weights, buffers and pipelines as the executor has them, and one op run at a time. */
#ifndef WISP_CHECKER_BED_H
#define WISP_CHECKER_BED_H

#include "gpu/kernels.h"
#include "shapes.h"

typedef enum bed_buffer { BED_DATA, BED_KV, BED_STEP, BED_TOKENS, BED_BUFFERS } bed_buffer;

/* What memory holds that nothing may read or write: a NaN as a float and as two halves. */
#define BED_POISON 0x7fff7fffu

/* Believed capabilities: the device's, then of another kind, with one optional feature taken away, with all taken away, a
 * discrete GPU with large batches, and an integrated one that was asked for f16 arithmetic, with subgroups and without. */
enum { BED_MODES = 17, BED_KERNELS = 128 };

typedef struct bed_run {
  uint32_t mode; /* what is believed of the device */
  const wisp_op *op;
  bool batch;               /* as wisp_kernel_for takes it */
  uint32_t position, count; /* of the step buffer */
  uint32_t first, columns;  /* dispatched: of the count, columns from first on */
  uint32_t shift;           /* which inputs: column c has those of (c + shift) in the pool */
} bed_run;

typedef struct bed {
  const wisp_host *host;
  wvk_device *device;
  const shape *shape;
  wisp_model model;
  wisp_plan plan;
  wisp_weights weights;
  wvk_caps caps[BED_MODES];
  wisp_kernel_context modes[BED_MODES];
  wvk_layout *layout;
  wvk_buffer *buffers[BED_BUFFERS];
  size_t words[BED_BUFFERS];
  uint64_t slot_bytes;
  wvk_set **sets; /* [weights.buffer_count] */
  wvk_commands *commands;
  wisp_kernel kernels[BED_KERNELS];
  wvk_pipeline *pipelines[BED_KERNELS]; /* NULL: the driver refused */
  uint32_t kernel_count;
  uint32_t *before[BED_BUFFERS]; /* [words]: contents before a run, written by the caller */
} bed;

/* mapped: the host sees all buffers but the weights, so that bed_run can be used; else only bed_record. */
wisp_status bed_open(bed *bed, const wisp_host *host, wvk_device *device, const shape *s, uint32_t blocks, bool mapped,
                     uint64_t *random);
void bed_close(bed *bed); /* accepts a zeroed struct */

/* The op of that kind, in the last block if in any. */
const wisp_op *bed_op(const bed *bed, wisp_op_kind kind);

/* Builds the pipelines of all kernels that the modes choose and wanted accepts; refused ones stay NULL. */
typedef bool bed_wanted(const void *user, const wisp_shader *shader, wisp_op_kind kind);
wisp_status bed_build(bed *bed, bed_wanted *wanted, const void *user);

/* Index of the kernel that a run takes for a part of its op, or -1: not built. */
int32_t bed_kernel(const bed *bed, const bed_run *run, uint32_t part);

/* No lower mode chooses the same kernels, and they are those that bed_build was to build. *refused becomes true where the
 * driver took one not. */
bool bed_is_new(const bed *bed, const bed_run *run, bool *refused);

/* The commands of a run, without a barrier behind them. */
void bed_record(bed *bed, const bed_run *run);

/* before to the device, the run, and its results behind bed_after. */
wisp_status bed_go(bed *bed, const bed_run *run);
const uint32_t *bed_after(const bed *bed, bed_buffer buffer);

/* All bytes of the weights as the device has them, in a new block; size in bytes. NULL: failed. */
uint8_t *bed_read_weights(bed *bed, size_t *size);

#endif
