/* SPDX-License-Identifier: Apache-2.0
 * Model files carry their chat template as a Jinja program. Wisp runs no programs from files: it knows the few formats that
 * small models use, and recognises them by what the program contains. */
#include "tokenizer/chat.h"

#include "tokenizer/writer.h"

typedef struct wisp_chat wisp_chat;

struct wisp_chat_format_def {
  const char *name;
  const char *markers[2];     /* the template contains them all */
  const char *default_system; /* system message where the conversation starts without one, or NULL */
  wisp_status (*write)(const wisp_chat *chat, wisp_writer *writer);
};

struct wisp_chat {
  const wisp_chat_format_def *def;
  const wisp_host *host;
  const wisp_message *messages;
  size_t count;
  bool open_reply;
};

static void put(wisp_writer *writer, const char *text) {
  wisp_put(writer, text, strlen(text));
}

/* Without white space at both ends. */
static void put_trimmed(wisp_writer *writer, const char *text) {
  static const char white[] = " \t\n\v\f\r";
  text += strspn(text, white);
  size_t size = strlen(text);
  while (size > 0 && strchr(white, text[size - 1])) size--;
  wisp_put(writer, text, size);
}

static bool has_role(const wisp_message *message, const char *role) {
  return strcmp(message->role, role) == 0;
}

/* ---- ChatML ---- */

static void put_chatml(wisp_writer *writer, const char *role, const char *content) {
  put(writer, "<|im_start|>");
  put(writer, role);
  put(writer, "\n");
  put(writer, content);
  put(writer, "<|im_end|>\n");
}

static wisp_status write_chatml(const wisp_chat *chat, wisp_writer *writer) {
  if (chat->def->default_system && chat->count > 0 && !has_role(&chat->messages[0], "system")) {
    put_chatml(writer, "system", chat->def->default_system);
  }
  for (size_t i = 0; i < chat->count; i++) put_chatml(writer, chat->messages[i].role, chat->messages[i].content);
  if (chat->open_reply) put(writer, "<|im_start|>assistant\n");
  return WISP_OK;
}

/* ---- Llama 3 ---- */

static void put_llama3_header(wisp_writer *writer, const char *role) {
  put(writer, "<|start_header_id|>");
  put(writer, role);
  put(writer, "<|end_header_id|>\n\n");
}

static wisp_status write_llama3(const wisp_chat *chat, wisp_writer *writer) {
  put(writer, "<|begin_of_text|>");
  for (size_t i = 0; i < chat->count; i++) {
    put_llama3_header(writer, chat->messages[i].role);
    put_trimmed(writer, chat->messages[i].content);
    put(writer, "<|eot_id|>");
  }
  if (chat->open_reply) put_llama3_header(writer, "assistant");
  return WISP_OK;
}

/* ---- Llama 2: the system message is part of the first user message; the reply opens by itself ---- */

static wisp_status write_llama2(const wisp_chat *chat, wisp_writer *writer) {
  const wisp_message *messages = chat->messages;
  size_t first = chat->count > 0 && has_role(&messages[0], "system") ? 1 : 0;
  for (size_t i = first; i < chat->count; i++) {
    bool user = (i - first) % 2 == 0;
    if (!has_role(&messages[i], user ? "user" : "assistant")) {
      return wisp_fail(chat->host, WISP_ERROR_ARGUMENT,
                       "chat message %zu is of role \"%s\", but llama2 wants user and assistant by turns", i, messages[i].role);
    }
    if (user) {
      put(writer, "<s>[INST] ");
      if (i == first && first == 1) {
        put(writer, "<<SYS>>\n");
        put(writer, messages[0].content);
        put(writer, "\n<</SYS>>\n\n");
      }
      put_trimmed(writer, messages[i].content);
      put(writer, " [/INST]");
    } else {
      put(writer, " ");
      put_trimmed(writer, messages[i].content);
      put(writer, " </s>");
    }
  }
  if (chat->count == first && first == 1) {
    return wisp_fail(chat->host, WISP_ERROR_ARGUMENT, "a llama2 chat needs a user message behind the system message");
  }
  return WISP_OK;
}

/* ---- Choice: the first that fits ---- */

#define SMOLLM2_SYSTEM "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
#define QWEN25_SYSTEM "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
#define QWEN2_SYSTEM "You are a helpful assistant."

static const wisp_chat_format_def formats[] = {
    {"chatml", {"<|im_start|>", SMOLLM2_SYSTEM}, SMOLLM2_SYSTEM, write_chatml},
    {"chatml", {"<|im_start|>", QWEN25_SYSTEM}, QWEN25_SYSTEM, write_chatml},
    {"chatml", {"<|im_start|>", QWEN2_SYSTEM}, QWEN2_SYSTEM, write_chatml},
    {"chatml", {"<|im_start|>", ""}, NULL, write_chatml},
    {"llama3", {"<|start_header_id|>", "<|eot_id|>"}, NULL, write_llama3},
    {"llama2", {"[INST]", "<<SYS>>"}, NULL, write_llama2},
};

static bool contains(wisp_text text, const char *marker) {
  size_t size = strlen(marker);
  for (uint64_t i = 0; size <= text.size && i <= text.size - size; i++) {
    if (memcmp(text.bytes + i, marker, size) == 0) return true;
  }
  return false;
}

const wisp_chat_format_def *wisp_chat_choose(const wisp_gguf *gguf) {
  const wisp_gguf_entry *entry = wisp_gguf_find(gguf, "tokenizer.chat_template");
  if (!entry || entry->type != WISP_GGUF_STRING) return NULL;
  for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
    if (contains(entry->strings[0], formats[i].markers[0]) && contains(entry->strings[0], formats[i].markers[1]))
      return &formats[i];
  }
  return NULL;
}

const char *wisp_chat_name(const wisp_chat_format_def *def) {
  return def ? def->name : NULL;
}

wisp_status wisp_chat_write(const wisp_chat_format_def *def, const wisp_host *host, const wisp_message *messages, size_t count,
                            bool open_reply, char *text, size_t capacity, size_t *size) {
  *size = 0;
  if (!def) {
    return wisp_fail(host, WISP_ERROR_UNSUPPORTED,
                     "the model file has no chat template that is known here (chatml, llama2, llama3); use plain text instead");
  }
  wisp_writer writer = {text, capacity, 0};
  WISP_TRY(def->write(&(wisp_chat){def, host, messages, count, open_reply}, &writer));
  *size = writer.size;
  return WISP_OK;
}
