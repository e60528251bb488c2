/* SPDX-License-Identifier: Apache-2.0
 * Keys and defaults on the Hugging Face side: the configuration classes of transformers, and facebook's for MobileLLM; on the
 * GGUF side: what llama.cpp's converter writes. docs/formats.md lists what is Wisp's own. */
#include "model/hf_config.h"

#include <math.h>
#include <stdio.h>

typedef struct reader {
  const wisp_json *json;
  const wisp_host *host;
  wisp_hf_config *config;
  wisp_arena *arena;
  wisp_gguf_fields *fields;
  uint32_t context_length;
  char key[96]; /* of key_of */
} reader;

typedef struct family {
  const char *model_type, *architecture;
  unsigned traits;
  const char *activation_key, *activation;
  const char *ffn_key;   /* width of the feed-forward network */
  const char *share_key; /* whether the embedding is the head */
  bool share_default;
  uint32_t head_size; /* where head_dim is absent; 0 = hidden_size / num_attention_heads */
  float rope_theta;   /* where rope_theta is absent; 0 = it must be there */
  wisp_status (*extra)(reader *r);
} family;

/* ARCHITECTURE.suffix, until the next call. */
static const char *key_of(reader *r, const char *suffix) {
  snprintf(r->key, sizeof r->key, "%s.%s", r->config->architecture, suffix);
  return r->key;
}

static wisp_status unsupported(const reader *r, const char *what) {
  return wisp_fail(r->host, WISP_ERROR_UNSUPPORTED, "%s: %s", r->json->name, what);
}

static wisp_status refuse_if(const reader *r, const char *key) {
  bool set = false;
  WISP_TRY(wisp_json_bool(r->json, key, false, &set));
  return set ? wisp_fail(r->host, WISP_ERROR_UNSUPPORTED, "%s: \"%s\" is true, which Wisp does not run", r->json->name, key)
             : WISP_OK;
}

/* ---- What single families have ------------------------------------------------------------------------------------------- */

/* layer_types: *windowed[i] for each block, or NULL if absent. */
static wisp_status read_layer_types(const reader *r, bool **windowed) {
  const cJSON *types = wisp_json_member(r->json->root, "layer_types"), *type;
  *windowed = NULL;
  if (!types) return WISP_OK;
  const uint32_t blocks = r->config->blocks;
  if (!cJSON_IsArray(types) || cJSON_GetArraySize(types) != (int)blocks)
    return wisp_fail(r->host, WISP_ERROR_FORMAT, "%s: \"layer_types\" must be an array of %u strings", r->json->name, blocks);
  bool *next = *windowed = wisp_arena_alloc(r->arena, blocks, sizeof(bool));
  if (!next) return wisp_fail_memory(r->host, r->json->name, blocks);
  cJSON_ArrayForEach(type, types) {
    const char *text = cJSON_IsString(type) ? type->valuestring : "";
    *next++ = !strcmp(text, "sliding_attention");
    if (strcmp(text, "full_attention") && strcmp(text, "sliding_attention"))
      return wisp_fail(r->host, WISP_ERROR_UNSUPPORTED,
                       "%s: \"layer_types\" has \"%.40s\"; Wisp runs full_attention and sliding_attention", r->json->name,
                       text);
  }
  return WISP_OK;
}

static wisp_status write_windows(reader *r, const bool *windowed) {
  uint32_t window = 0;
  WISP_TRY(wisp_json_u32(r->json, "sliding_window", true, &window));
  wisp_fields_u32(r->fields, key_of(r, "attention.sliding_window"), window);
  wisp_fields_array(r->fields, key_of(r, "attention.sliding_window_pattern"), WISP_GGUF_BOOL);
  for (uint32_t i = 0; i < r->config->blocks; i++) wisp_fields_add_bool(r->fields, windowed[i]);
  return WISP_OK;
}

static wisp_status extra_llama(reader *r) {
  WISP_TRY(refuse_if(r, "attention_bias"));
  WISP_TRY(refuse_if(r, "mlp_bias"));
  wisp_fields_u32(r->fields, key_of(r, "rope.dimension_count"), r->config->head_size);
  if (strcmp(r->config->architecture, "mobilellm") == 0) wisp_fields_u32(r->fields, key_of(r, "block_repeat_count"), 2);
  return WISP_OK;
}

static wisp_status extra_qwen(reader *r) {
  return refuse_if(r, "use_sliding_window");
}

/* no_rope_layers has a 1 for each block with RoPE. */
static wisp_status require_rope(const reader *r, bool by_default) {
  const cJSON *flags = wisp_json_member(r->json->root, "no_rope_layers"), *flag;
  if (!flags && by_default) return WISP_OK;
  bool all = cJSON_IsArray(flags) && cJSON_GetArraySize(flags) == (int)r->config->blocks;
  cJSON_ArrayForEach(flag, flags) all = all && cJSON_IsNumber(flag) && flag->valuedouble == 1;
  return all ? WISP_OK : unsupported(r, "\"no_rope_layers\" must have a 1 for each block: Wisp runs RoPE in all of them");
}

static wisp_status extra_llama4(reader *r) {
  const cJSON *moe = wisp_json_member(r->json->root, "moe_layers");
  uint32_t experts = 0, step = 0, expert_width = 0, chunk = UINT32_MAX;
  bool qk_norm = true, *windowed;
  WISP_TRY(wisp_json_u32(r->json, "num_local_experts", false, &experts));
  WISP_TRY(wisp_json_u32(r->json, "interleave_moe_layer_step", false, &step));
  if (experts > 1 && (step || cJSON_GetArraySize(moe) > 0)) return unsupported(r, "mixtures of experts are not supported");
  WISP_TRY(require_rope(r, false));
  WISP_TRY(refuse_if(r, "attention_bias"));
  WISP_TRY(wisp_json_u32(r->json, "intermediate_size", false, &expert_width));
  WISP_TRY(wisp_json_u32(r->json, "attention_chunk_size", false, &chunk));
  WISP_TRY(wisp_json_bool(r->json, "use_qk_norm", false, &qk_norm));
  WISP_TRY(read_layer_types(r, &windowed));
  for (uint32_t i = 0; windowed && i < r->config->blocks; i++) {
    if (windowed[i]) return unsupported(r, "\"layer_types\" must be full_attention in all blocks of a llama4_text model");
  }
  if (!windowed && chunk < r->context_length)
    return unsupported(r, "attention in chunks (\"attention_chunk_size\") is not supported");
  wisp_fields_u32(r->fields, key_of(r, "rope.dimension_count"), r->config->head_size);
  wisp_fields_u32(r->fields, key_of(r, "expert_count"), 0);
  wisp_fields_u32(r->fields, key_of(r, "expert_feed_forward_length"), expert_width);
  wisp_fields_u32(r->fields, key_of(r, "interleave_moe_layer_step"), step);
  wisp_fields_u32(r->fields, key_of(r, "attention.sliding_window"), 0); /* llama.cpp: no attention in chunks */
  wisp_fields_bool(r->fields, key_of(r, "attention.qk_norm"), qk_norm);
  return WISP_OK;
}

static wisp_status extra_pro(reader *r) {
  bool qk_norm = false, *windowed;
  WISP_TRY(require_rope(r, true));
  WISP_TRY(refuse_if(r, "attention_bias"));
  WISP_TRY(refuse_if(r, "attn_temperature_tuning"));
  WISP_TRY(wisp_json_bool(r->json, "use_qk_norm", true, &qk_norm));
  WISP_TRY(read_layer_types(r, &windowed));
  if (!windowed) return wisp_fail(r->host, WISP_ERROR_FORMAT, "%s: missing key \"layer_types\"", r->json->name);
  wisp_fields_u32(r->fields, key_of(r, "rope.dimension_count"), r->config->head_size);
  wisp_fields_bool(r->fields, key_of(r, "attention.qk_norm"), qk_norm);
  return write_windows(r, windowed);
}

static wisp_status extra_gemma3(reader *r) {
  enum { PERIOD = 6 }; /* every sixth block sees everything */
  const cJSON *rope = wisp_json_member(r->json->root, "rope_parameters");
  const cJSON *local = wisp_json_member(wisp_json_member(rope, "sliding_attention"), "rope_theta");
  uint32_t period = PERIOD, scalar = r->config->head_size;
  float theta = 10000;
  bool *windowed;
  WISP_TRY(refuse_if(r, "attention_bias"));
  if (wisp_json_member(r->json->root, "attn_logit_softcapping") || wisp_json_member(r->json->root, "final_logit_softcapping"))
    return unsupported(r, "soft capping of logits (\"attn_logit_softcapping\", \"final_logit_softcapping\") is not supported");
  WISP_TRY(wisp_json_u32(r->json, "query_pre_attn_scalar", false, &scalar));
  WISP_TRY(wisp_json_u32(r->json, "sliding_window_pattern", false, &period));
  WISP_TRY(wisp_json_u32(r->json, "_sliding_window_pattern", false, &period));
  if (period == 0 || scalar == 0)
    return unsupported(r, "\"sliding_window_pattern\" and \"query_pre_attn_scalar\" must not be 0");
  WISP_TRY(wisp_json_f32(r->json, "rope_local_base_freq", false, &theta));
  if (cJSON_IsNumber(local)) theta = (float)local->valuedouble;
  WISP_TRY(read_layer_types(r, &windowed));
  if (!windowed) {
    windowed = wisp_arena_alloc(r->arena, r->config->blocks, sizeof *windowed);
    if (!windowed) return wisp_fail_memory(r->host, r->json->name, r->config->blocks);
    for (uint32_t i = 0; i < r->config->blocks; i++) windowed[i] = (i + 1) % period != 0;
  }
  wisp_fields_f32(r->fields, key_of(r, "rope.freq_base_swa"), theta);
  wisp_fields_f32(r->fields, key_of(r, "attention.scale"), 1 / sqrtf((float)scalar));
  return write_windows(r, windowed);
}

enum { LLAMA = WISP_HF_MLP | WISP_HF_TWO_NORMS, GEMMA = WISP_HF_MLP | WISP_HF_FOUR_NORMS | WISP_HF_NORM_PLUS_ONE };

/* A mobilellm model whose blocks are not run twice is a llama model, and is written as one. */
static const char tie[] = "tie_word_embeddings", act[] = "hidden_act", ffn[] = "intermediate_size";
/* clang-format off */
static const family families[] = {
    {"llama", "llama", LLAMA | WISP_HF_HALVES, act, "silu", ffn, tie, false, 0, 1e4f, extra_llama},
    {"mobilellm", "llama", LLAMA | WISP_HF_HALVES, act, "silu", ffn, "share_embedding", true, 0, 1e4f, extra_llama},
    {"llama4_text", "llama4", WISP_HF_FEED_FORWARD | WISP_HF_TWO_NORMS, act, "silu", "intermediate_size_mlp", tie, false, 128, 5e5f,
     extra_llama4},
    {"mobilellm_p1", "mobilellm-pro", WISP_HF_FEED_FORWARD | WISP_HF_TWO_NORMS, act, "silu", "intermediate_size_mlp", tie, true, 64, 0,
     extra_pro},
    {"qwen2", "qwen2", LLAMA | WISP_HF_QKV_BIAS, act, "silu", ffn, tie, false, 0, 1e4f, extra_qwen},
    {"qwen3", "qwen3", LLAMA | WISP_HF_QK_NORM, act, "silu", ffn, tie, false, 128, 1e4f, extra_qwen},
    {"gemma3_text", "gemma3", GEMMA | WISP_HF_QK_NORM, "hidden_activation", "gelu_pytorch_tanh", ffn, tie, true, 256, 1e6f,
     extra_gemma3},
};
/* clang-format on */
static const char family_names[] = "llama, mobilellm, llama4_text, mobilellm_p1, qwen2, qwen3, gemma3_text";

/* ---- What all have ------------------------------------------------------------------------------------------------------- */

static wisp_status find_family(const wisp_json *json, const family **found) {
  const char *type = NULL;
  WISP_TRY(wisp_json_text(json, "model_type", true, &type));
  for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
    if (!strcmp(type, families[i].model_type)) {
      *found = &families[i];
      return WISP_OK;
    }
  }
  return wisp_fail(json->host, WISP_ERROR_UNSUPPORTED, "%s: \"model_type\" \"%.64s\" is not supported; supported: %s",
                   json->name, type, family_names);
}

static wisp_status read_shape(reader *r, const family *f) {
  wisp_hf_config *c = r->config;
  uint32_t ffn_width = 0;
  float epsilon = 0;
  const struct {
    const char *key, *suffix;
    uint32_t *value;
  } numbers[] = {
      {"hidden_size", "embedding_length", &c->width},
      {"num_hidden_layers", "block_count", &c->blocks},
      {f->ffn_key, "feed_forward_length", &ffn_width},
      {"num_attention_heads", "attention.head_count", &c->heads},
      {"max_position_embeddings", "context_length", &r->context_length},
      {"vocab_size", "vocab_size", &c->vocabulary},
  };
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    WISP_TRY(wisp_json_u32(r->json, numbers[i].key, true, numbers[i].value));
    if (*numbers[i].value == 0 || *numbers[i].value > 1u << 24)
      return wisp_fail(r->host, WISP_ERROR_FORMAT, "%s: \"%s\" is %u, expected 1 to %u", r->json->name, numbers[i].key,
                       *numbers[i].value, 1u << 24);
    wisp_fields_u32(r->fields, key_of(r, numbers[i].suffix), *numbers[i].value);
  }
  if (c->blocks > 4096) return unsupported(r, "\"num_hidden_layers\" is more than 4096");
  c->kv_heads = c->heads;
  WISP_TRY(wisp_json_u32(r->json, "num_key_value_heads", false, &c->kv_heads));
  c->head_size = f->head_size ? f->head_size : c->width / c->heads;
  WISP_TRY(wisp_json_u32(r->json, "head_dim", false, &c->head_size));
  if (c->head_size < 2 || c->head_size > 1024 || c->head_size % 2)
    return wisp_fail(r->host, WISP_ERROR_UNSUPPORTED, "%s: head size %u (\"head_dim\"), expected an even number from 2 to 1024",
                     r->json->name, c->head_size);
  WISP_TRY(wisp_json_f32(r->json, "rms_norm_eps", true, &epsilon));
  wisp_fields_u32(r->fields, key_of(r, "attention.head_count_kv"), c->kv_heads);
  wisp_fields_u32(r->fields, key_of(r, "attention.key_length"), c->head_size);
  wisp_fields_u32(r->fields, key_of(r, "attention.value_length"), c->head_size);
  wisp_fields_f32(r->fields, key_of(r, "attention.layer_norm_rms_epsilon"), epsilon);
  return WISP_OK;
}

/* Llama 3's scaling: long waves are stretched by factor, short ones are left, those between blended. */
static wisp_status llama3_factors(reader *r, const cJSON *scaling, float theta) {
  static const char *const names[] = {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"};
  double values[4];
  for (int i = 0; i < 4; i++) {
    const cJSON *item = wisp_json_member(scaling, names[i]);
    if (!cJSON_IsNumber(item) || !(item->valuedouble > 0))
      return wisp_fail(r->host, WISP_ERROR_FORMAT, "%s: missing key \"%s\" in \"rope_scaling\", or it is not above 0",
                       r->json->name, names[i]);
    values[i] = item->valuedouble;
  }
  const double factor = values[0], low = values[1], high = values[2], context = values[3], pi = 3.14159265358979323846;
  if (low >= high) return unsupported(r, "\"low_freq_factor\" must be below \"high_freq_factor\"");
  const uint32_t pairs = r->config->head_size / 2;
  float *factors = r->config->rope_factors = wisp_arena_alloc(r->arena, pairs, sizeof *factors);
  if (!factors) return wisp_fail_memory(r->host, "RoPE factors", pairs * sizeof *factors);
  for (uint32_t i = 0; i < pairs; i++) {
    const double wave = 2 * pi * pow((double)theta, 2.0 * i / r->config->head_size);
    const double blend = (context / wave - low) / (high - low);
    factors[i] = (float)(wave < context / high ? 1 : wave > context / low ? factor : 1 / ((1 - blend) / factor + blend));
  }
  return WISP_OK;
}

/* rope_theta and rope_scaling, or both in rope_parameters (transformers 5; Gemma has one for each kind of block there). */
static wisp_status read_rope(reader *r, const family *f) {
  const cJSON *nested = wisp_json_member(r->json->root, "rope_parameters");
  const cJSON *full = wisp_json_member(nested, "full_attention");
  const cJSON *scaling = wisp_json_member(r->json->root, "rope_scaling");
  if (full) nested = full;
  if (!scaling) scaling = nested;
  float theta = f->rope_theta;
  const cJSON *nested_theta = wisp_json_member(nested, "rope_theta");
  if (cJSON_IsNumber(nested_theta)) theta = (float)nested_theta->valuedouble;
  WISP_TRY(wisp_json_f32(r->json, "rope_theta", theta == 0, &theta));
  wisp_fields_f32(r->fields, key_of(r, "rope.freq_base"), theta);

  const cJSON *type = wisp_json_member(scaling, "rope_type"), *factor = wisp_json_member(scaling, "factor");
  if (!type) type = wisp_json_member(scaling, "type");
  if (!type || !cJSON_IsString(type) || !strcmp(type->valuestring, "default")) {
    return scaling && scaling != nested && !type ? unsupported(r, "\"rope_scaling\" has no \"rope_type\"") : WISP_OK;
  }
  if (!strcmp(type->valuestring, "llama3")) return llama3_factors(r, scaling, theta);
  if (!strcmp(type->valuestring, "linear") && cJSON_IsNumber(factor)) {
    wisp_fields_text(r->fields, key_of(r, "rope.scaling.type"), wisp_text_of("linear"));
    wisp_fields_f32(r->fields, key_of(r, "rope.scaling.factor"), (float)factor->valuedouble);
    return WISP_OK;
  }
  return wisp_fail(r->host, WISP_ERROR_UNSUPPORTED, "%s: \"rope_scaling\" of type \"%.40s\" is not supported", r->json->name,
                   type->valuestring);
}

static wisp_status read_bits(reader *r) {
  uint32_t bits = 16;
  WISP_TRY(wisp_json_u32(r->json, "w_bits", false, &bits));
  r->config->quantized_bits = bits < 16 ? (int)bits : -1;
  return bits <= 4 || bits >= 16 ? WISP_OK
                                 : unsupported(r, "\"w_bits\" must be 0 (ternary), 1, 2, 3, 4, or 16 and more for none");
}

wisp_status wisp_hf_config_read(wisp_hf_config *config, const wisp_json *json, wisp_arena *arena, wisp_gguf_fields *fields) {
  reader r = {.json = json, .host = json->host, .config = config, .arena = arena, .fields = fields};
  const family *f = NULL;
  bool twice = false;
  WISP_TRY(find_family(json, &f));
  *config = (wisp_hf_config){.traits = f->traits, .head_shared = f->share_default};
  /* facebook's trainer writes its flags into configs of model_type "llama" too. */
  if (f->extra == extra_llama) WISP_TRY(wisp_json_bool(json, "layer_sharing", false, &twice));
  snprintf(config->architecture, sizeof config->architecture, "%s", twice ? "mobilellm" : f->architecture);
  wisp_fields_text(fields, "general.architecture", wisp_text_of(config->architecture));

  const char *activation = f->activation;
  WISP_TRY(wisp_json_text(json, f->activation_key, false, &activation));
  if (strcmp(activation, f->activation))
    return wisp_fail(json->host, WISP_ERROR_UNSUPPORTED, "%s: \"%s\" is \"%.40s\"; Wisp runs %s for %s", json->name,
                     f->activation_key, activation, f->activation, f->model_type);
  WISP_TRY(read_shape(&r, f));
  WISP_TRY(read_rope(&r, f));
  WISP_TRY(read_bits(&r));
  WISP_TRY(wisp_json_bool(json, f->share_key, false, &config->head_shared));
  if (f->extra == extra_llama) WISP_TRY(wisp_json_bool(json, "share_embedding", false, &config->head_shared));
  return f->extra(&r);
}
