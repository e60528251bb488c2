/* SPDX-License-Identifier: Apache-2.0
 * Device "auto": what it chooses, keeps and says; prompts on one device and replies on the other, as on one alone. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "unit/session_fixture.h"

enum { PROMPT = 20, REPLY = 12, PROMPT_AT = 4, REPLY_AT = 8 /* bytes of the kept choice */ };

/* Keeps one entry whose key begins with "auto-", as a host would. */
typedef struct keeper {
  uint8_t bytes[256];
  size_t size;
  uint32_t puts;
} keeper;

static size_t get(void *user, const char *key, void *data, size_t size) {
  const keeper *k = user;
  if (strncmp(key, "auto-", 5)) return 0;
  memcpy(data, k->bytes, size < k->size ? size : k->size);
  return k->size;
}

static void put(void *user, const char *key, const void *data, size_t size) {
  keeper *k = user;
  if (strncmp(key, "auto-", 5) || size > sizeof k->bytes) return;
  memcpy(k->bytes, data, size);
  k->size = size;
  k->puts++;
}

static void open_auto(fixture *f, keeper *k) {
  wisp_engine_params params = fixture_params(f, "auto", "tiny-ls");
  params.cache = (wisp_cache){get, put, k};
  fixture_create(f, &params);
}

static const char *choice_of(const fixture *f) {
  wisp_engine_stats stats;
  wisp_engine_get_stats(f->engine, &stats);
  return stats.choice;
}

/* The software driver passes for a GPU. */
static void pretend(void) {
  setenv("WISP_CAPS", "kind=discrete", 1);
}

static void read_and_reply(wisp_session *session, const int32_t *ids, int32_t reply[2 * REPLY]) {
  fixture_append(session, ids, PROMPT, WISP_LOGITS_NONE, NULL);
  fixture_generate(session, reply, REPLY);
  cr_assert_eq(wisp_session_truncate(session, PROMPT + 3), WISP_OK);
  fixture_append(session, ids, PROMPT / 2, WISP_LOGITS_NONE, NULL); /* a prompt behind a reply: handed back */
  fixture_generate(session, reply + REPLY, REPLY);
}

Test(auto_device, software_driver_does_not_count) {
  fixture f;
  keeper k = {.size = 0};
  open_auto(&f, &k);
  cr_expect_str_eq(choice_of(&f), "cpu: there is no GPU with a Vulkan driver");
  cr_expect_eq(k.puts, 0u);
  fixture_close(&f);
}

Test(auto_device, named_device_is_no_choice) {
  fixture f;
  fixture_open(&f, "cpu", "tiny");
  cr_expect_str_eq(choice_of(&f), "");
  fixture_close(&f);
}

Test(auto_device, trial_is_kept) {
  pretend();
  fixture f;
  keeper k = {.size = 0};
  open_auto(&f, &k);
  cr_expect(strstr(choice_of(&f), "prompts on ") && strstr(choice_of(&f), "replies on "), "%s", choice_of(&f));
  cr_expect_eq(k.puts, 1u);
  fixture_close(&f);
  open_auto(&f, &k);
  cr_expect(strstr(choice_of(&f), "as found at an earlier start"), "%s", choice_of(&f));
  cr_expect_eq(k.puts, 1u);
  fixture_close(&f);
}

Test(auto_device, damaged_choice_is_made_anew) {
  pretend();
  fixture f;
  keeper k = {.size = 0};
  open_auto(&f, &k);
  fixture_close(&f);
  k.bytes[PROMPT_AT] = 77;
  open_auto(&f, &k);
  cr_expect_eq(k.puts, 2u);
  fixture_close(&f);
  k.size = 7;
  open_auto(&f, &k);
  cr_expect_eq(k.puts, 3u);
  fixture_close(&f);
}

/* A GPU that fails, at the trial or when it was chosen earlier, leaves the model to the CPU. */
Test(auto_device, gpu_that_fails_is_given_up) {
  pretend();
  fixture f;
  keeper k = {.size = 0};
  open_auto(&f, &k);
  fixture_close(&f);
  k.bytes[PROMPT_AT] = k.bytes[REPLY_AT] = 1;
  setenv("WISP_CAPS", "kind=discrete,max_allocation=256", 1);
  for (int kept = 1; kept >= 0; kept--) {
    if (!kept) k.size = 0;
    open_auto(&f, &k);
    cr_expect(strncmp(choice_of(&f), "cpu: ", 5) == 0 && strstr(choice_of(&f), "cannot be used"), "%s", choice_of(&f));
    cr_expect_eq(f.witness.capture.errors, 1u, "%u errors", f.witness.capture.errors);
    f.witness.capture.errors = 0;
    fixture_close(&f);
  }
  cr_expect_eq(k.puts, 1u);
}

static void replies_on_either_device(const wisp_sampler_params *sampler) {
  fixture f;
  int32_t ids[PROMPT], expected[2 * REPLY], found[2 * REPLY];
  fixture_open(&f, "cpu", "tiny-ls");
  fixture_ids(&f, ids, PROMPT);
  wisp_session *session = fixture_sampling(&f, sampler);
  read_and_reply(session, ids, expected);
  wisp_session_destroy(&session);
  fixture_close(&f);

  pretend();
  keeper k = {.size = 0};
  open_auto(&f, &k);
  fixture_close(&f);
  for (uint8_t prompt = 0; prompt < 2; prompt++)
    for (uint8_t reply = 0; reply < 2; reply++) {
      k.bytes[PROMPT_AT] = prompt, k.bytes[REPLY_AT] = reply;
      open_auto(&f, &k);
      cr_expect_eq(strstr(choice_of(&f), "prompts on vulkan") != NULL, prompt == 1, "%s", choice_of(&f));
      cr_expect_eq(strstr(choice_of(&f), "replies on vulkan") != NULL, reply == 1, "%s", choice_of(&f));
      session = fixture_sampling(&f, sampler);
      read_and_reply(session, ids, found);
      cr_expect_arr_eq(found, expected, sizeof found, "prompts on %u, replies on %u", prompt, reply);
      float *logits = fixture_rows(&f, 1);
      fixture_append(session, ids, 1, WISP_LOGITS_LAST, logits);
      free(logits);
      wisp_session_destroy(&session);
      fixture_close(&f);
    }
}

/* Every split of the phases makes the CPU's tokens. */
Test(auto_device, phases_on_either_device) {
  const wisp_sampler_params greedy = wisp_sampler_params_defaults();
  replies_on_either_device(&greedy);
}

Test(auto_device, drawn_on_either_device) {
  const wisp_sampler_params warm = {.temperature = 40, .top_k = 30, .top_p = 0.9f, .repetition_penalty = 1, .seed = 9};
  replies_on_either_device(&warm);
}
