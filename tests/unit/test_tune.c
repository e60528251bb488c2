/* SPDX-License-Identifier: Apache-2.0
 * Tuning: what is chosen is kept and taken up again, damage is not believed, and no choice changes what decode says. Nothing
 * here depends on which candidate is the fastest. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/choice.h"
#include "unit/kept_cache.h"
#include "unit/session_fixture.h"

enum { TOKENS = 40 };

/* ---- Choices ----------------------------------------------------------------------------------------------------------- */

Test(tune, every_value_can_be_said) {
  for (int knob = 0; knob < WISP_KNOB_COUNT; knob++) {
    cr_assert(wisp_knobs[knob].values[0] && !wisp_knobs[knob].values[WISP_KNOB_VALUES - 1], "knob %d: no end", knob);
    for (int i = 0; wisp_knobs[knob].values[i]; i++) {
      wisp_choice said = {{0}}, understood;
      char text[WISP_CHOICE_TEXT_BYTES];
      said.knobs[knob] = wisp_knobs[knob].values[i];
      wisp_choice_text(&said, text);
      cr_assert(wisp_choice_parse(&understood, text), "%s", text);
      cr_assert_arr_eq(&understood, &said, sizeof said, "%s", text);
    }
  }
}

/* All knobs together. */
static wisp_choice full_choice(void) {
  wisp_choice choice;
  for (int knob = 0; knob < WISP_KNOB_COUNT; knob++) choice.knobs[knob] = wisp_knobs[knob].values[1];
  return choice;
}

Test(tune, choices_as_text) {
  const wisp_choice full = full_choice();
  wisp_choice choice;
  char text[WISP_CHOICE_TEXT_BYTES];
  wisp_choice_text(&full, text);
  cr_assert_lt(strlen(text), sizeof text - 1, "cut short: %s", text);
  cr_assert(wisp_choice_parse(&choice, text));
  cr_assert_arr_eq(&choice, &full, sizeof full);
  cr_assert(wisp_choice_parse(&choice, " fused=on,, units=8 "));
  cr_assert_eq(choice.knobs[WISP_KNOB_FUSED], WISP_ON);
  cr_assert_eq(choice.knobs[WISP_KNOB_UNITS], 8);
  static const char *const wrong[] = {"fused",  "fused=",   "fused=1",  "=on",   "units=9",
                                      "unit=8", "units=8x", "units=80", "sing=1"};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) cr_assert(!wisp_choice_parse(&choice, wrong[i]), "%s", wrong[i]);
}

static bool is_nothing(const wisp_choice_kept *found) {
  const wisp_choice none = {{0}};
  return found->origin == WISP_CHOICE_NONE && !memcmp(&found->choice, &none, sizeof none);
}

static bool loads(kept *k, const wisp_choice_key *key) {
  const wisp_cache cache = kept_cache(k);
  const wisp_choice_kept found = wisp_choice_load(&cache, key);
  return !is_nothing(&found);
}

Test(tune, damaged_entries_count_as_none) {
  kept k = {.entries = {{.size = 0}}};
  const wisp_cache cache = kept_cache(&k);
  const wisp_choice_key key = {"tuned-test", 12345};
  const wisp_choice_kept good = {.choice = full_choice(), .origin = WISP_CHOICE_TUNED, .default_us = 2, .us = 1};
  cr_assert(!loads(&k, &key), "there is nothing");
  wisp_choice_save(&cache, &key, &good);
  const wisp_choice_kept found = wisp_choice_load(&cache, &key);
  cr_assert_eq(found.origin, WISP_CHOICE_TUNED);
  cr_assert_arr_eq(&found.choice, &good.choice, sizeof good.choice);
  cr_assert(found.us == 1 && found.default_us == 2);

  kept_entry *entry = kept_find(&k, "tuned-");
  const size_t size = entry->size;
  for (size_t bit = 0; bit < 8 * size; bit++) {
    entry->data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    cr_assert(!loads(&k, &key), "bit %zu was not missed", bit);
    entry->data[bit / 8] ^= (uint8_t)(1 << bit % 8);
  }
  for (entry->size = 0; entry->size < size; entry->size++) cr_assert(!loads(&k, &key), "%zu bytes are enough", entry->size);
  entry->data = realloc(entry->data, size + 1);
  entry->size = size + 1;
  cr_assert(!loads(&k, &key), "one byte too many");
  entry->size = size;
  cr_assert(loads(&k, &key));
  const wisp_choice_key foreign = {"tuned-test", 12346};
  cr_assert(!loads(&k, &foreign), "of another build");

  for (int knob = 0; knob < WISP_KNOB_COUNT; knob++) { /* sound, but nothing that this build knows */
    wisp_choice_kept strange = good;
    strange.choice.knobs[knob] = 7777;
    wisp_choice_save(&cache, &key, &strange);
    cr_assert(!loads(&k, &key), "%s=7777", wisp_knobs[knob].name);
  }
  kept_forget(&k);
}

/* ---- What decode says -------------------------------------------------------------------------------------------------- */

static bool has_pipeline(fixture *f, const char *name, const char *constant) {
  static wisp_pipeline_info infos[96];
  const uint32_t count = wisp_engine_pipelines(f->engine, infos, 96);
  for (uint32_t i = 0; i < count && i < 96; i++)
    if (!strcmp(infos[i].name, name) && strstr(infos[i].constants, constant)) return true;
  return false;
}

/* Greedy tokens, and the logits behind them. */
static void say(fixture *f, int32_t ids[TOKENS], float *logits) {
  wisp_session *session = fixture_session(f, 128);
  fixture_append(session, (int32_t[]){1, 2, 3}, 3, WISP_LOGITS_NONE, NULL);
  fixture_generate(session, ids, TOKENS);
  if (logits) fixture_append(session, (int32_t[]){4}, 1, WISP_LOGITS_LAST, logits);
  wisp_session_destroy(&session);
}

/* Forced choices, as the device is and as a discrete GPU: the same tokens, and the same bits each time. */
Test(tune, choices_change_no_token) {
  static const struct {
    const char *caps, *choice, *pipeline, *constant; /* a pipeline that must be there on a device with subgroups of 8 */
  } cases[] = {
      {"", "reductions=shared matrix_local=64", "gate_up", "local=64 "},
      {"", "matrix_local=256 qkv_slices=4 attn_out_slices=4 gate_up_slices=4 down_slices=4 head_slices=2", "qkv_subgroup",
       "local=256 slices=2"},
      {"", "reductions=direct attention_local=128", "attention_direct", "local=128 "},
      {"", "fused=on attention_groups=2 attention_local=256 qkv_rows=16 units=8", "attention_fused", "local=256 "},
      {"kind=discrete", "fused=off down_slices=4 attention_local=64 head_rows=16", "head_direct", "tile_rows=16"},
      {"kind=discrete", "qkv_rows=32 qkv_parts=4 units=32 gate_up_parts=1 ahead_words=24", "gate_up_fused", "tile_rows=32"},
  };
  int32_t expected[TOKENS], ids[TOKENS];
  fixture f;
  fixture_open(&f, "vulkan", "tiny-32");
  const uint32_t vocabulary = f.vocabulary;
  float *logits = fixture_rows(&f, 3), *again = logits + vocabulary, *plain = again + vocabulary;
  say(&f, expected, plain);
  wisp_engine_stats stats;
  wisp_engine_get_stats(f.engine, &stats);
  const bool must = strstr(stats.device.name, "llvmpipe") && stats.device.subgroup_size >= 8 && !getenv("WISP_CAPS");
  fixture_close(&f);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    setenv("WISP_CAPS", cases[i].caps, 1);
    setenv("WISP_TUNE", cases[i].choice, 1);
    for (int run = 0; run < 2; run++) {
      fixture_open(&f, "vulkan", "tiny-32");
      cr_expect(!must || has_pipeline(&f, cases[i].pipeline, cases[i].constant), "%s: no %s with %s", cases[i].choice,
                cases[i].pipeline, cases[i].constant);
      say(&f, ids, run ? again : logits);
      cr_expect_arr_eq(ids, expected, sizeof ids, "%s: other tokens", cases[i].choice);
      fixture_close(&f);
    }
    cr_expect_arr_eq(again, logits, vocabulary * sizeof *logits, "%s: other bits the second time", cases[i].choice);
    cr_expect_leq(fixture_nmse(logits, plain, vocabulary), 1e-6, "%s", cases[i].choice);
  }
  free(logits);
}

/* ---- wisp_engine_tune -------------------------------------------------------------------------------------------------- */

typedef struct told {
  uint32_t trials, stop_at;
  bool f16, took_f16; /* tried, taken */
  char last[96];
} told;

static bool hear(void *user, const wisp_tune_trial *trial) {
  told *t = user;
  cr_assert(trial->knob && trial->value && trial->why_not);
  cr_assert(trial->us_per_token > 0 || *trial->why_not, "%s=%s: not timed, and nobody says why", trial->knob, trial->value);
  cr_assert_eq(trial->best_us_per_token > 0, t->trials > 0, "the first has nothing before it");
  snprintf(t->last, sizeof t->last, "%s=%s", trial->knob, trial->value);
  const bool f16 = !strcmp(t->last, "arithmetic=f16");
  t->f16 |= f16;
  t->took_f16 |= f16 && trial->taken;
  return ++t->trials != t->stop_at;
}

static void start(fixture *f, const char *shape, kept *k) {
  wisp_engine_params params = fixture_params(f, "vulkan", shape);
  params.cache = kept_cache(k);
  fixture_create(f, &params);
}

static wisp_status tune_params(fixture *f, told *t, wisp_tune_params params, wisp_tune_result *result) {
  params.report = hear;
  params.user = t;
  params.budget_s = 600;
  return wisp_engine_tune(f->engine, &params, result);
}

static wisp_status tune(fixture *f, told *t, bool forget, wisp_tune_result *result) {
  wisp_tune_params params = wisp_tune_params_defaults();
  params.forget = forget;
  return tune_params(f, t, params, result);
}

static bool timed(fixture *f) {
  wisp_startup_step steps[64];
  const uint32_t count = wisp_engine_startup(f->engine, steps, 64);
  for (uint32_t i = 0; i < count && i < 64; i++)
    if (!strcmp(steps[i].name, "tuning")) return true;
  return false;
}

Test(tune, a_choice_is_kept_and_taken_up_again) {
  kept k = {.entries = {{.size = 0}}};
  fixture f;
  told t = {.trials = 0};
  wisp_tune_result first, second;
  wisp_engine_stats stats;
  int32_t before[TOKENS], ids[TOKENS];

  start(&f, "tiny", &k);
  say(&f, before, NULL);
  cr_assert_null(kept_find(&k, "tuned-"), "nobody asked a software device");
  cr_assert_eq(tune(&f, &t, true, &first), WISP_OK);
  kept_entry *entry = kept_find(&k, "tuned-");
  cr_assert_not_null(entry);
  for (size_t i = 0; i < entry->size; i++) entry->data[i] = (uint8_t)(i * 131 + 7); /* noise under the right key */
  fixture_close(&f);

  start(&f, "tiny", &k);
  const unsigned puts = entry->puts;
  cr_assert_eq(tune(&f, &t, false, &first), WISP_OK, "%s", f.witness.capture.error);
  cr_assert(!first.kept && first.complete && first.trials > 1 && first.trials == t.trials, "%u trials, %u told", first.trials,
            t.trials);
  cr_assert(first.us_per_token > 0 && first.default_us_per_token > 0);
  cr_assert_gt(entry->puts, puts, "the noise was not replaced");
  cr_assert(timed(&f));
  say(&f, ids, NULL);
  cr_assert_arr_eq(ids, before, sizeof ids);
  cr_assert_eq(tune(&f, &t, false, &second), WISP_OK);
  cr_assert(second.kept, "the same engine tries again");
  fixture_close(&f);

  start(&f, "tiny", &k); /* compiles what was chosen, if it was not there before; checks it */
  fixture_close(&f);
  t = (told){.trials = 0};
  start(&f, "tiny", &k);
  wisp_engine_get_stats(f.engine, &stats);
  const uint32_t built = stats.pipelines_built;
  cr_assert_eq(tune(&f, &t, false, &second), WISP_OK);
  cr_assert(second.kept && second.complete && !second.trials && !t.trials);
  cr_assert_str_eq(second.choice, first.choice);
  cr_assert(second.us_per_token == first.us_per_token && second.default_us_per_token == first.default_us_per_token);
  wisp_engine_get_stats(f.engine, &stats);
  cr_assert_eq(stats.pipelines_built, built, "a kept choice has nothing to build");
  cr_assert(!timed(&f), "nor to time");
  say(&f, ids, NULL);
  cr_assert_arr_eq(ids, before, sizeof ids);
  cr_assert_eq(tune(&f, &t, true, &second), WISP_OK);
  cr_assert(!second.kept && !second.trials);
  fixture_close(&f);

  t = (told){.stop_at = 1};
  start(&f, "tiny", &k); /* forgotten: begins again, and is stopped */
  const unsigned puts_before = entry->puts;
  cr_assert_eq(tune(&f, &t, false, &second), WISP_ERROR_CANCELLED);
  cr_assert_eq(t.trials, 1);
  cr_assert_eq(entry->puts, puts_before, "nothing is kept of what was stopped");
  say(&f, ids, NULL);
  cr_assert_arr_eq(ids, before, sizeof ids);
  fixture_close(&f);
  kept_forget(&k);
}

static bool offers_f16(fixture *f) {
  wisp_engine_stats stats;
  wisp_engine_get_stats(f->engine, &stats);
  return stats.device.float16;
}

/* Other numbers than f32's by its rounding and no more, and the same each time. */
Test(tune, f16_rounds) {
  fixture f;
  fixture_open(&f, "vulkan", "tiny-32");
  const uint32_t vocabulary = f.vocabulary;
  float *logits = fixture_rows(&f, 3), *again = logits + vocabulary, *plain = again + vocabulary;
  const bool offered = offers_f16(&f);
  int32_t ids[TOKENS];
  say(&f, ids, plain);
  fixture_close(&f);
  setenv("WISP_TUNE", "arithmetic=f16", 1);
  for (int run = 0; run < 2; run++) {
    wisp_session *session;
    fixture_open(&f, "vulkan", "tiny-32");
    cr_assert_eq(has_pipeline(&f, "gate_up_half", "") || has_pipeline(&f, "gate_up_half_subgroup", ""), offered);
    session = fixture_session(&f, 128);
    fixture_append(session, (int32_t[]){1, 2, 3}, 3, WISP_LOGITS_NONE, NULL);
    for (int i = 0; i < TOKENS; i++) fixture_append(session, &ids[i], 1, WISP_LOGITS_NONE, NULL);
    fixture_append(session, (int32_t[]){4}, 1, WISP_LOGITS_LAST, run ? again : logits);
    wisp_session_destroy(&session);
    fixture_close(&f);
  }
  cr_assert_arr_eq(again, logits, vocabulary * sizeof *logits, "other bits the second time");
  const double nmse = fixture_nmse(logits, plain, vocabulary);
  cr_assert(offered ? nmse > 0 && nmse <= 1e-4 : nmse == 0, "%g", nmse);
  free(logits);
}

Test(tune, f16_is_taken_by_those_who_ask) {
  kept k = {.entries = {{.size = 0}}};
  fixture f;
  told t = {.trials = 0};
  wisp_tune_result result;
  wisp_tune_params params = wisp_tune_params_defaults();
  start(&f, "tiny", &k);
  cr_assert_eq(tune_params(&f, &t, params, &result), WISP_OK, "%s", f.witness.capture.error);
  cr_assert_eq(t.f16, offers_f16(&f), "what it would bring is told");
  cr_assert(!t.took_f16 && !strstr(result.choice, "arithmetic"), "%s", result.choice);
  params.f16 = true;
  t = (told){.trials = 0};
  cr_assert_eq(tune_params(&f, &t, params, &result), WISP_OK, "%s", f.witness.capture.error);
  cr_assert(!result.kept && result.trials > 1, "what was found without it says nothing of it");
  cr_assert(t.took_f16 || !strstr(result.choice, "arithmetic"), "%s", result.choice);
  fixture_close(&f);
  kept_forget(&k);
}

Test(tune, what_cannot_be_tuned_says_so) {
  kept k = {.entries = {{.size = 0}}};
  fixture f;
  told t = {.trials = 0};
  wisp_tune_result result;
  fixture_open(&f, "cpu", "tiny");
  cr_assert_eq(tune(&f, &t, false, &result), WISP_ERROR_UNSUPPORTED);
  fixture_said(&f, "--device vulkan");
  fixture_close(&f);
  start(&f, "tiny", &k);
  const wisp_tune_params nothing = {.budget_s = 0};
  cr_assert_eq(wisp_engine_tune(f.engine, &nothing, &result), WISP_ERROR_ARGUMENT);
  fixture_said(&f, "budget");
  fixture_close(&f);
  setenv("WISP_TUNE", "units=9", 1);
  const wisp_engine_params params = fixture_params(&f, "vulkan", "tiny");
  cr_assert_eq(wisp_engine_create(&f.engine, &params), WISP_ERROR_ARGUMENT);
  fixture_said(&f, "units=9");
  setenv("WISP_TUNE", "units=8", 1);
  start(&f, "tiny", &k);
  cr_assert_eq(tune(&f, &t, false, &result), WISP_ERROR_ARGUMENT);
  fixture_said(&f, "WISP_TUNE");
  cr_assert_eq(t.trials, 0);
  fixture_close(&f);
  kept_forget(&k);
}

/* ---- In passing -------------------------------------------------------------------------------------------------------- */

/* The trial that GPUs make at a first start, asked for here. A device without what fused kernels need has nothing to try. */
Test(tune, in_passing) {
  kept k = {.entries = {{.size = 0}}};
  int32_t before[TOKENS], ids[TOKENS];
  fixture f;
  setenv("WISP_TUNE", "passing", 1);
  start(&f, "tiny-32", &k);
  say(&f, before, NULL); /* beside it */
  wisp_engine_settle(f.engine);
  wisp_engine_stats stats;
  wisp_engine_get_stats(f.engine, &stats);
  const bool must = strstr(stats.device.name, "llvmpipe") && stats.device.subgroup_size >= 8 && !getenv("WISP_CAPS");
  const bool tried = timed(&f);
  cr_assert(tried || !must);
  fixture_close(&f);
  cr_assert_eq(kept_find(&k, "tuned-") != NULL, tried, "what was found is kept");
  start(&f, "tiny-32", &k);
  say(&f, ids, NULL);
  wisp_engine_settle(f.engine);
  cr_assert(!timed(&f), "it is known already");
  fixture_close(&f);
  cr_assert_arr_eq(ids, before, sizeof ids);
  if (tried) cr_assert_eq(kept_find(&k, "tuned-")->puts, 1);
  setenv("WISP_TUNE", "0", 1);
  start(&f, "tiny-32", &k);
  wisp_engine_settle(f.engine);
  cr_assert(!timed(&f));
  say(&f, ids, NULL);
  cr_assert_arr_eq(ids, before, sizeof ids);
  fixture_close(&f);
  kept_forget(&k);
}
