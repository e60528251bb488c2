/* SPDX-License-Identifier: Apache-2.0
 *
 * Wisp: small language models on any Vulkan GPU, and on the CPU beside it.
 *
 * An engine is a loaded model on a device; a session is one timeline on it: a KV cache, the tokens in it, a sampler.
 * The way of a text: wisp_chat_format -> wisp_tokenize -> wisp_session_append -> wisp_session_generate -> wisp_detokenize.
 *
 * Rules that hold everywhere:
 * - A params struct is filled by its _defaults function, then changed; it only has to live for the call.
 * - Every call that can fail returns a wisp_status; what went wrong is said once, in one line, through the log callback at
 *   WISP_LOG_ERROR. On failure the out-pointer is set to NULL and nothing is kept.
 * - _destroy takes the address of the pointer, sets it to NULL, and accepts NULL.
 * - No global state, no stdio, no abort. An engine may be used by several threads, a session by one thread at a time;
 *   only wisp_session_cancel may be called from any thread. Sessions must be destroyed before their engine.
 */
#ifndef WISP_H
#define WISP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32) && defined(WISP_SHARED)
#ifdef WISP_BUILD
#define WISP_API __declspec(dllexport)
#else
#define WISP_API __declspec(dllimport)
#endif
#elif defined(__GNUC__)
#define WISP_API __attribute__((visibility("default")))
#else
#define WISP_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define WISP_VERSION_MAJOR 0
#define WISP_VERSION_MINOR 1
#define WISP_VERSION_PATCH 0

typedef enum wisp_status {
  WISP_OK = 0,
  WISP_ERROR_ARGUMENT = 1,     /* a parameter is out of its range */
  WISP_ERROR_IO = 2,           /* a file could not be opened or read */
  WISP_ERROR_FORMAT = 3,       /* a file is damaged or not what it claims to be */
  WISP_ERROR_UNSUPPORTED = 4,  /* well-formed, but not something this build runs */
  WISP_ERROR_MEMORY = 5,       /* host or device memory is exhausted */
  WISP_ERROR_DEVICE = 6,       /* no such device, or the driver failed */
  WISP_ERROR_CONTEXT_FULL = 7, /* the session holds as many tokens as it has room for */
  WISP_ERROR_CANCELLED = 8     /* wisp_session_cancel was called */
} wisp_status;

/* A constant string such as "context full"; never NULL. */
WISP_API const char *wisp_status_name(wisp_status status);

/* "0.1.0" */
WISP_API const char *wisp_version(void);

/* ---- Host: words and memory -------------------------------------------------------------------------------------- */

typedef enum wisp_log_level {
  WISP_LOG_ERROR = 0, /* the call fails because of this (device "auto": or goes on without the GPU); one line a failure */
  WISP_LOG_WARN = 1,  /* the call goes on, but not as one would expect (a variant was refused, a file contradicts itself) */
  WISP_LOG_INFO = 2,  /* what was chosen: device, tier, kernels */
  WISP_LOG_DEBUG = 3  /* for people who work on Wisp */
} wisp_log_level;

/* text is one line without its newline, alive for the call. May come from any thread, those of the library included. */
typedef void (*wisp_log_fn)(void *user, wisp_log_level level, const char *text);

/* What the library needs of its host. Zeroed fields mean: no log, malloc and free. */
typedef struct wisp_host {
  wisp_log_fn log;
  void *log_user;
  /* As realloc(3): pointer NULL allocates, size 0 frees and returns NULL. NULL result = out of memory. Thread-safe. */
  void *(*reallocate)(void *user, void *pointer, size_t size);
  void *memory_user;
} wisp_host;

/* ---- Devices ------------------------------------------------------------------------------------------------------ */

typedef struct wisp_device_info {
  char backend[8];        /* "cpu" or "vulkan" */
  char selector[16];      /* what to pass as device: "cpu", "vulkan:0", ... */
  char name[256];         /* "NVIDIA H100 80GB HBM3", "AMD EPYC" */
  char driver[256];       /* driver name and version; empty for the CPU */
  char kind[16];          /* "cpu", "integrated", "discrete", "virtual", "software", "other" */
  char tier[8];           /* "T0", "T1", "T1s", "T2": docs/portability.md; empty for the CPU */
  uint32_t api_version;   /* VK_MAKE_API_VERSION, 0 for the CPU */
  uint32_t subgroup_size; /* 0 for the CPU */
  uint32_t max_workgroup; /* invocations */
  uint32_t shared_memory; /* bytes */
  uint64_t max_binding;   /* bytes of one storage-buffer binding */
  uint64_t memory;        /* bytes of the largest device-local heap, or of physical memory */
  bool unified_memory;
  bool usable; /* meets tier T0; why_not says what is missing */
  char why_not[128];
  /* Optional features as the engine would use them, after WISP_CAPS. */
  bool float16, int8, storage16, storage8, subgroup_arithmetic, subgroup_shuffle, int_dot, cooperative_matrix,
      timeline_semaphore, timestamps, memory_model;
} wisp_device_info;

/* Lists up to capacity devices, the CPU last; *count is how many there are. A machine without a Vulkan driver lists only the
 * CPU and says why at WISP_LOG_WARN. infos may be NULL when capacity is 0. */
WISP_API wisp_status wisp_devices(const wisp_host *host, wisp_device_info *infos, uint32_t capacity, uint32_t *count);

/* ---- Engine ------------------------------------------------------------------------------------------------------- */

typedef struct wisp_engine wisp_engine;
typedef struct wisp_session wisp_session;

/* Where a model comes from: exactly one of path, data, fd >= 0, read, synthetic. */
typedef struct wisp_model_source {
  const char *path;
  const void *data; /* size bytes; must stay until the engine is destroyed */
  uint64_t size;
  int fd; /* bytes [offset, offset + size) of an open file; size 0 = to its end. Not closed. */
  uint64_t offset;
  /* Fills buffer with size bytes from offset, returns false on failure; total = size above. Called from the creating thread. */
  bool (*read)(void *user, uint64_t offset, void *buffer, uint64_t size);
  void *read_user;
  const char *synthetic;      /* a named shape with random weights, e.g. "mobilellm-125m"; see wisp_synthetic_names */
  const char *synthetic_type; /* "q4_0", "q8_0", "f16", ...; NULL = "q4_0" */
  uint64_t synthetic_seed;
} wisp_model_source;

typedef enum wisp_load {
  WISP_LOAD_VOCABULARY = 0,  /* metadata and tokenizer only: files without tensors work */
  WISP_LOAD_DESCRIPTION = 1, /* + description and plan, checked against the tensors; nothing is put on a device */
  WISP_LOAD_PIPELINES = 2,   /* + the pipelines built on the device, with statistics; no weights there, nothing executed */
  WISP_LOAD_ALL = 3
} wisp_load;

/* A pipeline cache in the host's keeping. get: copies at most size bytes of the entry into data and returns the entry's whole
 * size (0 = none); put: stores size bytes. Called from the threads that create, tune and destroy the engine: user must live as
 * long. What get gives is checked: a damaged or foreign entry is as none, and replaced. */
typedef struct wisp_cache {
  size_t (*get)(void *user, const char *key, void *data, size_t size);
  void (*put)(void *user, const char *key, const void *data, size_t size);
  void *user;
} wisp_cache;

/* What K and V are kept as. Q8_0: 8 bits and a scale in f16 for each 32 elements, 17/32 of F16's memory; for head sizes that
 * are a multiple of 32. */
typedef enum wisp_kv_type { WISP_KV_F16 = 0, WISP_KV_F32 = 1, WISP_KV_Q8_0 = 2 } wisp_kv_type;

typedef struct wisp_engine_params {
  wisp_host host;
  wisp_model_source source;
  wisp_load load;       /* default WISP_LOAD_ALL */
  const char *device;   /* "auto" (default), "cpu", "vulkan", "vulkan:INDEX" */
  uint32_t threads;     /* CPU threads; 0 = one for each fast core that the calling thread may use */
  uint32_t max_context; /* tokens; bounds every session of the engine; 0 = the model's own context length, past which a
                           warning is logged */
  wisp_kv_type kv_type; /* of the sessions to come: its kernels are built at once, its bytes told; default f16 */
  bool validate;        /* Vulkan validation layer on (also by WISP_VALIDATE=1) */
  wisp_cache cache;     /* optional */
  /* Optional: fraction in [0, 1] of stage ("load", "upload", "pipelines"); from the creating thread. */
  void (*progress)(void *user, const char *stage, float fraction);
  void *progress_user;
} wisp_engine_params;

WISP_API wisp_engine_params wisp_engine_params_defaults(void);

/* Errors: IO, FORMAT, UNSUPPORTED (the file); DEVICE, MEMORY (the device); ARGUMENT. */
WISP_API wisp_status wisp_engine_create(wisp_engine **engine, const wisp_engine_params *params);
WISP_API void wisp_engine_destroy(wisp_engine **engine);

/* Waits for what goes on in the background after creation (compiling a kernel for seconds, until which others do its work; at a
 * first start, some 0.3 s of timing it against them), so that what is measured from here on is what stays. */
WISP_API void wisp_engine_settle(wisp_engine *engine);

/* A step of start-up; steps on several threads overlap. */
typedef struct wisp_startup_step {
  const char *name;    /* "model file", "driver: instance", "upload", "pipelines", ... */
  double begin_ms, ms; /* since wisp_engine_create was called; how long it took */
} wisp_startup_step;

/* Fills up to capacity steps in the order of their ends, background ones as they come; returns how many there are. */
WISP_API uint32_t wisp_engine_startup(wisp_engine *engine, wisp_startup_step *steps, uint32_t capacity);

/* NULL-terminated list of names that wisp_model_source.synthetic takes. */
WISP_API const char *const *wisp_synthetic_names(void);

/* What the model is and what one token costs; strings live as long as the engine. */
typedef struct wisp_model_info {
  const char *name, *architecture, *type; /* type: the most frequent dtype of the matrices, "q4_1" */
  uint64_t parameters;
  uint32_t executed_blocks, weight_blocks, kv_slots;
  uint32_t width, heads, kv_heads, head_size, ffn_width, vocabulary, context_length;
  uint64_t weight_bytes;       /* as stored in the file */
  uint64_t kv_bytes_per_token; /* all slots, as the engine's kv_type */
  uint64_t bytes_per_token;    /* read to decode one token at an empty context: weights as on the device, each
                                  executed block counted */
  uint64_t flops_per_token;
  uint32_t dispatches_per_token, barriers_per_token; /* of the Vulkan decode plan */
  float submits_per_token;                           /* at most; several tokens share one where they are quick */
  uint32_t pipelines;                                /* distinct pipelines of decode and prefill */
} wisp_model_info;

WISP_API void wisp_engine_model_info(const wisp_engine *engine, wisp_model_info *info);

typedef enum wisp_phase { WISP_PHASE_DECODE = 0, WISP_PHASE_PREFILL = 1 } wisp_phase;

/* One op of the plan, for people and tools. */
typedef struct wisp_op_info {
  const char *name;       /* "qkv", "attention", ... : docs/architecture.md */
  int32_t executed_block; /* -1 outside blocks */
  int32_t weight_block, kv_slot;
  uint32_t rows, cols;   /* of the op's matrices together, 0 for ops without */
  const char *type;      /* dtype of the (first) matrix, "" where none */
  uint64_t bytes, flops; /* for one token at an empty context */
} wisp_op_info;

/* Fills up to capacity entries, returns how many ops the plan of that phase has. */
WISP_API uint32_t wisp_engine_plan(const wisp_engine *engine, wisp_phase phase, wisp_op_info *ops, uint32_t capacity);

/* One built GPU pipeline. */
typedef struct wisp_pipeline_info {
  char name[64];         /* shader variant */
  char constants[512];   /* "rows=576 cols=1536 ..." */
  char statistics[1024]; /* "name=value; ..." as the driver tells; empty where it does not */
} wisp_pipeline_info;

/* Pipelines that the engine holds (built at creation); 0 on the CPU. */
WISP_API uint32_t wisp_engine_pipelines(const wisp_engine *engine, wisp_pipeline_info *infos, uint32_t capacity);

/* How the engine runs, and what it took to get there. */
typedef struct wisp_engine_stats {
  wisp_device_info device;
  uint32_t threads;      /* CPU executor; 0 on Vulkan */
  const char *choice;    /* what device "auto" chose and why; "" for other devices; the engine's */
  const char *decode;    /* Vulkan: "persistent: ...", "fused: ..." or "dispatches: why"; "" elsewhere; the engine's */
  const char *kernels;   /* CPU executor: the kernel set, "avx2" (docs/performance.md); "" on Vulkan */
  double load_ms;        /* opening, checking and describing the file */
  double init_ms;        /* device, upload, pipelines */
  double driver_ms;      /* Vulkan: what instance and device took the driver, in part beside load_ms */
  uint64_t device_bytes; /* allocated now, all sessions included */
  uint64_t peak_device_bytes;
  uint32_t pipelines_built;                /* by the driver's compiler, since creation */
  uint32_t descriptor_writes, allocations; /* counted since creation; do not grow while decoding */
  uint64_t dispatches, barriers, submits;  /* likewise, grow */
} wisp_engine_stats;

WISP_API void wisp_engine_get_stats(const wisp_engine *engine, wisp_engine_stats *stats);

/* Reads and writes a few hundred MB on the device and says how fast: bytes read + written per second / 1e9. */
WISP_API wisp_status wisp_engine_copy_bandwidth(wisp_engine *engine, double *gb_per_s);

/* What bounds the CPU, measured in a tenth of a second or two on all of the engine's threads: bytes that it reads from memory
 * per second / 1e9, and operations of matrix products (a multiplication and an addition are two) per second / 1e9 when nothing
 * waits for memory, for one token and for a prompt's batch. 0 on Vulkan. */
typedef struct wisp_cpu_limits {
  double read_gb_per_s;
  double token_gflops, batch_gflops;
} wisp_cpu_limits;
WISP_API wisp_status wisp_engine_cpu_limits(wisp_engine *engine, wisp_cpu_limits *limits);

/* ---- Tuning ------------------------------------------------------------------------------------------------------- */

/* A way to decode that was timed, in turns with the best one so far. */
typedef struct wisp_tune_trial {
  const char *knob;    /* what it differs by: "attention_local", ... (docs/architecture.md); "" = where the search begins */
  const char *value;   /* "256", "on" */
  double us_per_token; /* microseconds of the device's time, best of several runs; 0 = was not timed */
  double best_us_per_token; /* the best one's in the same minute, 0 = there is none yet */
  bool taken;               /* faster by the margin, with the right results: the best one from here on */
  const char *why_not;      /* "wrong results", "refused by the driver", "not asked for" (f16); "" = it is the time that says */
} wisp_tune_trial;

typedef struct wisp_tune_params {
  double budget_s; /* about so many seconds, > 0; default 60. What was found until then is kept */
  bool forget;     /* forget what was found earlier, and try nothing */
  bool f16; /* also take arithmetic in f16 where it is faster: logits then differ by its roundings (docs/performance.md) */
  /* Optional: each trial, from the calling thread; strings live for the call. false stops: CANCELLED, nothing is kept. */
  bool (*report)(void *user, const wisp_tune_trial *trial);
  void *user;
} wisp_tune_params;

typedef struct wisp_tune_result {
  char choice[320];                          /* "fused=on units=32"; "" = everything as by default */
  double default_us_per_token, us_per_token; /* without it and with it, with 128 tokens held; 0 = not known */
  uint32_t trials;                           /* 0 where kept */
  bool kept;                                 /* found in the cache: nothing was timed or built */
  bool complete;                             /* all was tried; false: the budget was up. The next call begins again */
} wisp_tune_result;

WISP_API wisp_tune_params wisp_tune_params_defaults(void);

/* Finds out which kernels of decode, and which sizes of their work, are fastest on the engine's device for its model and KV
 * type, by timing them one by one with the model's weights; a few seconds on a desktop's GPU, minutes where a driver compiles
 * slowly. Sessions to come use what was found, and so do later engines with the same cache, device, driver and model. Every
 * choice gives the same tokens but for rounding, and one choice the same bits always. Meanwhile nothing else may use the
 * engine. Errors: ARGUMENT (budget; an engine without weights), UNSUPPORTED (on the CPU, or two devices), CANCELLED, DEVICE,
 * MEMORY. */
WISP_API wisp_status wisp_engine_tune(wisp_engine *engine, const wisp_tune_params *params, wisp_tune_result *result);

/* ---- Text --------------------------------------------------------------------------------------------------------- */

typedef enum wisp_tokenize_flags {
  WISP_TOKENIZE_PLAIN = 0,
  WISP_TOKENIZE_SPECIAL = 1, /* special tokens written in the text ("<|im_start|>") become their ids */
  WISP_TOKENIZE_BOS_EOS = 2  /* add BOS and EOS where the model's metadata asks for it */
} wisp_tokenize_flags;

/* text: size bytes, need not be valid UTF-8 nor end in NUL. Writes at most capacity ids; *count is how many there are, also
 * when they did not fit (call again with more room). UNSUPPORTED if the file has no tokenizer. */
WISP_API wisp_status wisp_tokenize(const wisp_engine *engine, const char *text, size_t size, unsigned flags, int32_t *ids,
                                   size_t capacity, size_t *count);

/* Bytes of one token: at most capacity are written, returns how many there are. Special tokens give nothing unless special.
 * Parts of a UTF-8 sequence may come in separate tokens. */
WISP_API size_t wisp_token_bytes(const wisp_engine *engine, int32_t id, bool special, char *bytes, size_t capacity);

/* Undoes wisp_tokenize: also drops the space that SentencePiece vocabularies put before the first word. */
WISP_API wisp_status wisp_detokenize(const wisp_engine *engine, const int32_t *ids, size_t count, bool special, char *text,
                                     size_t capacity, size_t *size);

WISP_API bool wisp_token_is_end(const wisp_engine *engine, int32_t id); /* end of text or of a turn */

typedef struct wisp_message {
  const char *role; /* "system", "user", "assistant" */
  const char *content;
} wisp_message;

/* Writes the conversation as the model was trained to see it, ready for WISP_TOKENIZE_SPECIAL (without BOS_EOS: the template
 * has them), with the opening of the assistant's turn if open_reply. *size is the whole length, NUL not counted. A file without
 * a template that Wisp knows: UNSUPPORTED. */
WISP_API wisp_status wisp_chat_format(const wisp_engine *engine, const wisp_message *messages, size_t count, bool open_reply,
                                      char *text, size_t capacity, size_t *size);

/* "chatml", "llama2", "llama3", or NULL if the file has none that Wisp knows. */
WISP_API const char *wisp_chat_template(const wisp_engine *engine);

/* ---- Session ------------------------------------------------------------------------------------------------------ */

typedef struct wisp_sampler_params {
  float temperature;          /* 0 = greedy */
  uint32_t top_k;             /* 0 = off */
  float top_p;                /* 1 = off; (0, 1] */
  float min_p;                /* 0 = off; [0, 1] */
  float repetition_penalty;   /* 1 = off; > 0; the host samples then, a token at a time */
  uint32_t repetition_window; /* last tokens that are penalised; 0 = all */
  uint64_t seed;              /* same seed and same logits, same tokens on every device */
} wisp_sampler_params;

WISP_API wisp_sampler_params wisp_sampler_params_defaults(void); /* greedy */

typedef struct wisp_session_params {
  uint32_t context;     /* tokens; 0 = min(engine's max_context, 4096) */
  wisp_kv_type kv_type; /* default f16 */
  wisp_sampler_params sampler;
  /* Optional: done of the count tokens of a wisp_session_append are evaluated. From its thread, after each batch; may cancel.
   */
  void (*progress)(void *user, size_t done, size_t count);
  void *progress_user;
} wisp_session_params;

WISP_API wisp_session_params wisp_session_params_defaults(void);

/* Errors: MEMORY (says how many bytes were asked), ARGUMENT, UNSUPPORTED (Q8_0 with heads that are no multiple of 32). */
WISP_API wisp_status wisp_session_create(wisp_session **session, wisp_engine *engine, const wisp_session_params *params);
WISP_API void wisp_session_destroy(wisp_session **session);

WISP_API uint32_t wisp_session_length(const wisp_session *session);  /* tokens held */
WISP_API uint32_t wisp_session_context(const wisp_session *session); /* tokens there is room for */

/* Forgets all tokens from position length on. length <= wisp_session_length. Cheap. */
WISP_API wisp_status wisp_session_truncate(wisp_session *session, uint32_t length);

typedef enum wisp_logits {
  WISP_LOGITS_NONE = 0, /* only fill the KV cache */
  WISP_LOGITS_LAST = 1, /* [vocabulary] of the last token */
  WISP_LOGITS_ALL = 2   /* [count][vocabulary] */
} wisp_logits;

/* Runs count tokens (as a batch) behind those already held. logits: room for what which says, in float; may be NULL if NONE.
 * CONTEXT_FULL: nothing was run. An id outside the vocabulary is ARGUMENT. */
WISP_API wisp_status wisp_session_append(wisp_session *session, const int32_t *ids, size_t count, wisp_logits which,
                                         float *logits);

/* Makes the session hold exactly these count >= 1 tokens: keeps what it holds of their beginning, forgets the rest, and runs
 * the others, at least the last one. *reused: how many were kept; may be NULL. logits: [vocabulary] of the last token, or NULL.
 * Errors as wisp_session_append; with CONTEXT_FULL and ARGUMENT the session is as it was. */
WISP_API wisp_status wisp_session_prompt(wisp_session *session, const int32_t *ids, size_t count, float *logits,
                                         uint32_t *reused);

/* Called for each new token; false stops. */
typedef bool (*wisp_token_fn)(void *user, int32_t id);

typedef struct wisp_generate_params {
  uint32_t max_tokens;    /* 0 makes none */
  bool ignore_end;        /* go on past end tokens */
  wisp_token_fn on_token; /* may be NULL */
  void *user;
} wisp_generate_params;

/* Continues after the tokens held, which must be at least one: samples up to max_tokens, each held in turn. ids: room for
 * max_tokens; *count is how many were made, an end token (which is counted and held) being the last. Stops with OK at an end
 * token, at max_tokens, or when on_token says so; with CONTEXT_FULL or CANCELLED otherwise, *count being valid also then. */
WISP_API wisp_status wisp_session_generate(wisp_session *session, const wisp_generate_params *params, int32_t *ids,
                                           uint32_t *count);

/* Decodes tokens greedily, each op timed by the device, and writes the median nanoseconds of each op of the decode plan, in its
 * order. op_ns: [wisp_engine_plan(engine, WISP_PHASE_DECODE, NULL, 0)]. The session holds what it held
 * before. UNSUPPORTED on the CPU and
 * on devices without timestamps. */
WISP_API wisp_status wisp_session_profile(wisp_session *session, uint32_t tokens, double *op_ns);

/* Makes the running append or generate return CANCELLED soon, from any thread; one that is not running is not affected later.
 */
WISP_API void wisp_session_cancel(wisp_session *session);

/* ---- States of sessions ------------------------------------------------------------------------------------------- */

/* Takes the next bytes of a file that is written from front to back; false stops (then the call returns IO). */
typedef bool (*wisp_output_fn)(void *user, const void *data, size_t size);

/* Writes the tokens that the session holds with their K and V (docs/formats.md), so that a later session on any device goes on
 * from there without running them; not the sampler. The first save or load of an engine reads all weights once, to know the
 * model again. Errors: IO (write said false); DEVICE, MEMORY (reading back from the device). */
WISP_API wisp_status wisp_session_save(wisp_session *session, wisp_output_fn write, void *user);

/* Replaces what the session holds by a saved state; source: not its synthetic kind, only needed for the call. FORMAT: not a
 * state, damaged or cut short; UNSUPPORTED: of another model, KV type or version; CONTEXT_FULL: of more tokens than there is
 * room for; IO: could not be read. After these the session is as it was; after DEVICE or MEMORY it may hold nothing. */
WISP_API wisp_status wisp_session_load(wisp_session *session, const wisp_model_source *source);

/* ---- Conversion --------------------------------------------------------------------------------------------------- */

/* fraction in [0, 1] of the work is done; false stops (then the call returns CANCELLED). From the calling thread. */
typedef bool (*wisp_continue_fn)(void *user, float fraction);

typedef struct wisp_convert_params {
  wisp_host host;
  wisp_model_source source;     /* synthetic: its weights of type, a file to try programs with; no embedding_type */
  wisp_model_source importance; /* optional: what wisp_calibrate wrote for this model */
  const char *type;             /* one of wisp_convert_types */
  const char *embedding_type;   /* of token_embd and output; NULL = as docs/quality.md says for the type */
  bool plain;                   /* round as other programs do, instead of searching the scales that lose least */
  uint32_t threads;             /* 0 = one for each physical core */
  wisp_output_fn write;         /* takes the GGUF file */
  void *write_user;
  wisp_continue_fn progress; /* optional */
  void *progress_user;
} wisp_convert_params;

typedef struct wisp_convert_result {
  uint64_t parameters;          /* weights of all tensors */
  uint64_t source_bytes, bytes; /* of all tensors, as stored */
  uint32_t tensors;
  uint32_t fallbacks; /* matrices whose rows are no multiple of the type's block: stored as another (logged at INFO) */
} wisp_convert_result;

WISP_API wisp_convert_params wisp_convert_params_defaults(void);

/* NULL-terminated list of what type and embedding_type take. */
WISP_API const char *const *wisp_convert_types(void);

/* Writes the model with its matrices in another type; vectors stay f32. Goes tensor by tensor: needs memory for some rows only.
 * Errors: those of opening a source; ARGUMENT (type); FORMAT (weights that are not finite); IO, CANCELLED. */
WISP_API wisp_status wisp_convert(const wisp_convert_params *params, wisp_convert_result *result);

typedef struct wisp_calibrate_params {
  const int32_t *ids; /* [count]: text that is like what the model will see */
  size_t count;
  uint32_t window;      /* tokens evaluated together, >= 1; the last window may be shorter; default 512 */
  wisp_output_fn write; /* takes the importance file */
  void *write_user;
  wisp_continue_fn progress; /* optional */
  void *progress_user;
} wisp_calibrate_params;

WISP_API wisp_calibrate_params wisp_calibrate_params_defaults(void);

/* Evaluates a text and writes, for each column of each matrix, the mean square of what it was multiplied with (a GGUF file:
 * docs/formats.md). The engine must run on the CPU, from a file (UNSUPPORTED otherwise). */
WISP_API wisp_status wisp_calibrate(wisp_engine *engine, const wisp_calibrate_params *params);

#ifdef __cplusplus
}
#endif
#endif
