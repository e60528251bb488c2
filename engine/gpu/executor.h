/* SPDX-License-Identifier: Apache-2.0
 * The GPU executor's own structures: executor.c opens it, build.c makes its pipelines, timeline.c records and appends,
 * generate.c makes tokens. */
#ifndef WISP_GPU_EXECUTOR_H
#define WISP_GPU_EXECUTOR_H

#include <pthread.h>

#include "base/crew.h"
#include "gpu/choice.h"
#include "gpu/gpu.h"
#include "gpu/kernels.h"
#include "gpu/persistent.h"
#include "gpu/trust.h"
#include "session/executor.h"

enum {
  WISP_GPU_LOGIT_COLUMNS = 64, /* tokens of a prefill batch whose logits are all wanted */
  WISP_GPU_MAX_PIPELINES = 96
};

struct gpu_executor {
  wisp_executor base;
  const wisp_host *host;
  const wisp_plan *plan;
  wisp_gpu_opening *opening; /* owns device */
  wvk_device *device;
  wvk_layout *layout;
  wisp_weights weights;
  wisp_kernel_context context; /* kv_type is set per timeline in a copy */
  bool compile_only;
  wisp_cache cache;
  wisp_startup *startup;
  wisp_crew uploaders, builders, beside; /* of weights; of pipelines; for what goes on beside the upload */
  wisp_status built;                     /* what beside has come to */
  uint32_t saved;                        /* pipelines built when the cache was last put */
  pthread_mutex_t mutex;                 /* guards kernels and pipelines: timelines may add some; trust; opened, closing */
  pthread_cond_t changed;                /* of opened, closing */
  bool opened, closing;                  /* it may be used; it is being destroyed */
  wisp_trust trust;
  wisp_choice_key choice_key;
  wisp_choice_kept kept; /* what context.choice is of, unless the environment says it */
  bool choice_asked;     /* it does, by WISP_TUNE */
  bool choice_changed;   /* kept is not in the cache yet; both guarded by mutex once opened */
  wisp_kernel kernels[WISP_GPU_MAX_PIPELINES];
  wvk_pipeline *pipelines[WISP_GPU_MAX_PIPELINES];
  uint32_t pipeline_count;
  wisp_persistent persistent;
};

enum {
  WISP_GPU_FLIGHTS = 2,     /* submits under way at the same time, when tokens are generated */
  WISP_GPU_FLIGHT_PARTS = 5 /* commands of 1, 1, 2, 4 and 8 tokens: the first n of them make 2^(n-1) */
};

/* One submit of decode. */
typedef struct gpu_flight {
  wvk_commands *parts[WISP_GPU_FLIGHT_PARTS];
  uint32_t tokens; /* submitted, and not yet told to the session */
} gpu_flight;

/* What a pass makes of its last ops. */
typedef enum wisp_gpu_outcome {
  WISP_GPU_FILL, /* only K and V */
  WISP_GPU_NEXT, /* logits of the last column, and the next token */
  WISP_GPU_EVERY /* as NEXT, and the logits of every column to the readback buffer */
} wisp_gpu_outcome;

struct gpu_timeline {
  wisp_timeline base;
  gpu_executor *executor;
  wisp_kernel_context context;
  uint32_t kv_slots;   /* of the KV cache */
  uint64_t slot_bytes; /* of one, a multiple of the offset alignment */
  wvk_buffer *kv, *data, *step, *tokens, *residual;
  wvk_buffer *readback; /* [readback_columns][vocabulary] floats */
  uint32_t readback_columns;
  uint32_t head_columns;  /* that the head takes at a time where all logits are wanted */
  wvk_set **sets;         /* [weights.buffer_count] */
  wvk_commands *batch;    /* recorded for each prefill batch that is not like the one before */
  uint32_t batch_limit;   /* tokens of a prefill batch: the device's, or fewer by the environment variable WISP_BATCH */
  uint32_t batch_columns; /* of what batch holds, 0 = nothing; and what it makes of the last ops */
  uint32_t batch_outcome;
  double prompt_seconds;     /* how long a token of a prompt took at last, 0 = not known */
  wvk_commands *read_logits; /* logits of column 0 to the readback buffer; recorded once */
  gpu_flight flights[WISP_GPU_FLIGHTS];
  uint32_t oldest;       /* the flight whose tokens come next; the others follow in turn */
  bool recorded;         /* the flights' commands, once the sampler is known */
  bool ahead;            /* settled flights have moved the step and the logits on beyond what is held */
  double submit_seconds; /* what an empty submit and its wait took */
  double token_seconds;  /* how long a token took at last, 0 = not known */
  double busy_since;     /* when the device began the oldest flight, 0 = not known */
  wisp_persistent_state persistent;
};

/* Records a pass over columns tokens, the last ops as wanted. */
wisp_status wisp_gpu_record_pass(gpu_timeline *timeline, wvk_commands *commands, uint32_t columns, wisp_gpu_outcome wanted);

/* The step buffer for a pass, and which draw the next is. Nothing of the timeline may be running. */
void wisp_gpu_write_step(gpu_timeline *timeline, uint32_t position, uint32_t count, uint64_t drawn);

/* Records a token of decode as the timeline now makes them: in one dispatch or many. */
wisp_status wisp_gpu_record_token(gpu_timeline *timeline, wvk_commands *commands);

/* Records the draw of the next token in place of the one that the persistent path has chosen. */
wisp_status wisp_gpu_record_redraw(gpu_timeline *timeline, wvk_commands *commands);

wisp_status wisp_gpu_run(gpu_timeline *timeline, wvk_commands *commands); /* submits and waits */

/* Decode (generate.c). open makes the commands objects, close waits for what is under way. prepare records the commands when
 * the sampler is known: before the first token. settle waits for flights and forgets their tokens; go_back then brings the
 * logits and the step to what is held. step evaluates the token behind those held and chooses the next; its id and the step
 * buffer are written. */
wisp_status wisp_gpu_decode_open(gpu_timeline *timeline);
void wisp_gpu_decode_close(gpu_timeline *timeline);
wisp_status wisp_gpu_decode_prepare(gpu_timeline *timeline);
wisp_status wisp_gpu_decode_settle(gpu_timeline *timeline);
wisp_status wisp_gpu_decode_go_back(gpu_timeline *timeline);
wisp_status wisp_gpu_decode_step(gpu_timeline *timeline);

/* Records op, a barrier behind it, for columns [first_column, first_column + columns) of the batch. */
wisp_status wisp_gpu_record_op(gpu_timeline *timeline, wvk_commands *commands, const wisp_op *op, uint32_t first_column,
                               uint32_t columns);

/* bindings[0 .. WISP_BINDINGS): the timeline's buffers, and so many bytes of a weights buffer and of the KV cache. */
void wisp_gpu_bindings(const gpu_timeline *timeline, uint32_t buffer, uint64_t weights_range, uint64_t kv_range,
                       wvk_binding *bindings);

/* Builds the pipelines of all ops for that KV type that are not there yet, on as many threads as there are cores, but not the
 * head's for several columns. A refused subgroup variant is replaced. */
wisp_status wisp_gpu_build_pipelines(gpu_executor *executor, wisp_kv_type kv_type);

/* Builds the head's pipelines for several columns, which only logits of all positions need; *built: none was refused. */
wisp_status wisp_gpu_build_batch_head(gpu_executor *executor, const wisp_kernel_context *context, bool *built);

/* Destroys those from the first on. The caller holds the mutex, or nobody else uses the executor. */
void wisp_gpu_drop_pipelines(gpu_executor *executor, uint32_t first);

/* For work at start-up: one a core. */
uint32_t wisp_gpu_threads(void);

/* Sets spirv and spirv_bytes: the embedded ones, or with WISP_SHADER_DIR set, in a build that has the compiler, the GLSL of
 * that folder compiled. Returns what was compiled, NULL = nothing; free it with wvk_glsl_free when the pipeline is there. */
uint32_t *wisp_gpu_choose_spirv(const gpu_executor *executor, wvk_pipeline_params *params, const wisp_shader *shader);

/* What a pipeline of the kernel, which must stay, is made from; returns as wisp_gpu_choose_spirv does. */
uint32_t *wisp_gpu_pipeline_params(const gpu_executor *executor, const wisp_kernel *kernel, wvk_pipeline_params *params);

/* Takes on what decode is to be like; what the device refuses stays refused. */
void wisp_gpu_set_choice(gpu_executor *executor, const wisp_choice *choice);

/* The pipeline of a kernel that was built; NULL: it was not. */
const wvk_pipeline *wisp_gpu_pipeline(gpu_executor *executor, const wisp_kernel *kernel);

/* Runs each kind of op on this device with a few tokens and compares with the C reference (selftest.c), attention over many
 * positions as well (splits_check.h). A variant that is wrong is replaced by the plain one, attention whose positions are
 * shared by one that shares none, and named at WARN; a wrong plain one is DEVICE. Start-up leaves it out where the same kernels
 * have passed at an earlier start (trust.h). */
wisp_status wisp_gpu_selftest(gpu_executor *executor);

/* Behind the self-test, where context.fused: compares the fused kernels with a batch (fused_check.c). Where they are wrong they
 * are given up, named at WARN, and the kernels of single ops built and tested. */
wisp_status wisp_gpu_check_fused(gpu_executor *executor);

wisp_status wisp_gpu_timeline_create(wisp_timeline **timeline, wisp_executor *executor, uint32_t context, wisp_kv_type kv_type);

/* As chosen says, with its KV type; its pipelines are there. kv_slots: the plan's, or fewer where only blocks that use the
 * first ones will run. */
wisp_status wisp_gpu_timeline_create_as(gpu_timeline **timeline, gpu_executor *executor, const wisp_kernel_context *chosen,
                                        uint32_t context, uint32_t kv_slots);
void wisp_gpu_timeline_destroy(wisp_timeline *timeline);
wisp_status wisp_gpu_append(wisp_timeline *timeline, const int32_t *ids, size_t count, wisp_logits which, float *logits);
wisp_status wisp_gpu_last_logits(wisp_timeline *timeline, float *logits);
wisp_status wisp_gpu_generate(wisp_timeline *timeline, uint32_t count, int32_t *ids, uint32_t *made);
wisp_status wisp_gpu_profile(wisp_timeline *timeline, uint32_t tokens, double *op_ns);
void wisp_gpu_truncate(wisp_timeline *timeline, uint32_t length);
wisp_status wisp_gpu_kv_read(wisp_timeline *timeline, wisp_output_fn write, void *user); /* kv_transfer.c */
wisp_status wisp_gpu_kv_write(wisp_timeline *timeline, uint32_t length, const uint8_t *rows);

#define WISP_GPU_TRY(expression)                                                                                               \
  do {                                                                                                                         \
    wvk_status wisp_gpu_try_status = (expression);                                                                             \
    if (wisp_gpu_try_status != WVK_OK) return wisp_gpu_status(wisp_gpu_try_status);                                            \
  } while (0)

#endif
