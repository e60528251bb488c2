/* SPDX-License-Identifier: Apache-2.0
 * Chat formats against what the models' own templates give; the expected texts were written out by hand from them. */
#include <criterion/criterion.h>

#include "tokenizer/chat.h"
#include "unit/tokenizer_file.h"

static const char smollm2[] = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ "
                              "'<|im_start|>system\nYou are a helpful AI "
                              "assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}...";
static const char plain_chatml[] =
    "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n'}}{% endfor %}";
static const char llama2[] =
    "{{ bos_token + '[INST] ' + '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + content + ' [/INST]' }}";
static const char llama3[] =
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}";

static const wisp_message user_only[] = {{"user", "Hi"}};
static const wisp_message turns[] = {{"system", "Be brief."}, {"user", " Hi\n"}, {"assistant", "Hello."}, {"user", "Bye"}};

typedef struct chat_case {
  const char *template, *name;
  const wisp_message *messages;
  size_t count;
  bool open_reply;
  const char *text;
} chat_case;

static const chat_case cases[] = {
    {smollm2, "chatml", user_only, 1, true,
     "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
     "Face<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
     "<|im_start|>assistant\n"},
    {smollm2, "chatml", turns, 4, false,
     "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hi\n<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n"
     "<|im_start|>user\nBye<|im_end|>\n"},
    {smollm2, "chatml", NULL, 0, true, "<|im_start|>assistant\n"},
    {plain_chatml, "chatml", user_only, 1, true, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"},
    {llama2, "llama2", user_only, 1, true, "<s>[INST] Hi [/INST]"},
    {llama2, "llama2", turns, 4, true, "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Hello. </s><s>[INST] Bye [/INST]"},
    {llama3, "llama3", user_only, 1, false, "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"},
    {llama3, "llama3", turns, 4, true,
     "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe "
     "brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
     "Hi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHello.<|eot_id|><|start_header_id|>user<|end_header_id|>"
     "\n\nBye"
     "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"},
};

static const wisp_chat_format_def *choose(tokenizer_file *file, const char *template) {
  gguf_builder builder;
  gguf_begin(&builder);
  if (template) gguf_add_string(&builder, "tokenizer.chat_template", template);
  cr_assert_eq(tokenizer_file_built(file, &builder), WISP_OK);
  return wisp_chat_choose(&file->gguf);
}

Test(chat, conversations_are_written_as_the_templates_do) {
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    const chat_case *c = &cases[i];
    tokenizer_file file;
    char text[1024] = {0};
    size_t size, again;
    const wisp_chat_format_def *def = choose(&file, c->template);
    cr_assert_not_null(def);
    cr_assert_str_eq(wisp_chat_name(def), c->name);
    cr_assert_eq(wisp_chat_write(def, &file.host, c->messages, c->count, c->open_reply, text, sizeof text - 1, &size), WISP_OK);
    cr_expect_str_eq(text, c->text);
    cr_expect_eq(size, strlen(c->text));

    char few[8] = "-------";
    cr_assert_eq(wisp_chat_write(def, &file.host, c->messages, c->count, c->open_reply, few, 5, &again), WISP_OK);
    cr_expect_eq(again, size);
    cr_expect(memcmp(few, c->text, 5) == 0 && strcmp(few + 5, "--") == 0);
    tokenizer_file_close(&file);
  }
}

Test(chat, unknown_templates_are_refused) {
  static const char *const unknown[] = {NULL, "", "{{ 'Q: ' + q }}", "{{ '[INST] ' + m + ' [/INST]' }}"};
  for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
    tokenizer_file file;
    size_t size = 7;
    const wisp_chat_format_def *def = choose(&file, unknown[i]);
    cr_assert_null(def);
    cr_assert_null(wisp_chat_name(def));
    cr_assert_eq(wisp_chat_write(def, &file.host, user_only, 1, true, NULL, 0, &size), WISP_ERROR_UNSUPPORTED);
    cr_assert_eq(file.capture.errors, 1u);
    cr_assert_eq(size, 0u);
    tokenizer_file_close(&file);
  }
}

Test(chat, llama2_wants_turns) {
  static const wisp_message twice[] = {{"user", "a"}, {"user", "b"}}, alone[] = {{"system", "a"}},
                            late[] = {{"user", "a"}, {"system", "b"}};
  static const struct {
    const wisp_message *messages;
    size_t count;
  } bad[] = {{twice, 2}, {alone, 1}, {late, 2}};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    tokenizer_file file;
    size_t size;
    const wisp_chat_format_def *def = choose(&file, llama2);
    cr_assert_eq(wisp_chat_write(def, &file.host, bad[i].messages, bad[i].count, true, NULL, 0, &size), WISP_ERROR_ARGUMENT);
    cr_assert_eq(file.capture.errors, 1u);
    tokenizer_file_close(&file);
  }
}

Test(chat, default_model_speaks_chatml) {
  tokenizer_file file;
  char text[512];
  int32_t ids[128];
  size_t size, count;
  tokenizer_file_default_model(&file);
  const wisp_chat_format_def *def = wisp_chat_choose(&file.gguf);
  cr_assert_not_null(def);
  cr_assert_eq(wisp_chat_write(def, &file.host, user_only, 1, true, text, sizeof text, &size), WISP_OK);
  cr_assert_eq(wisp_tokenizer_encode(file.tokenizer, text, size, WISP_TOKENIZE_SPECIAL, ids, 128, &count), WISP_OK);
  int starts = 0, ends = 0;
  for (size_t i = 0; i < count; i++) {
    starts += ids[i] == 1;
    ends += ids[i] == 2;
  }
  cr_assert_eq(starts, 3);
  cr_assert_eq(ends, 2);
  tokenizer_file_close(&file);
}
