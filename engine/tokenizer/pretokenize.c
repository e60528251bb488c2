/* SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/pretokenize.h"

#include <string.h>
#include <utf8proc.h>

static const wisp_pretokenizer pretokenizers[] = {
    {.name = "gpt-2", .aliases = {"gpt2", "phi-2", "olmo", "mpt", "trillion", "exaone4"}},
    {.name = "smollm",
     .aliases = {"starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"},
     .digits = 1,
     .digits_apart = true},
    {.name = "llama-bpe",
     .aliases = {"llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "lfm2"},
     .cl100k = true,
     .digits = 3,
     .ignore_merges = true,
     .add_bos = true},
    {.name = "qwen2", .aliases = {"deepseek-r1-qwen", "megrez", "stablelm2"}, .cl100k = true, .digits = 1},
};
static const char names[] = "gpt-2, smollm, llama-bpe, qwen2";

typedef enum wisp_class { CLASS_END, CLASS_LETTER, CLASS_NUMBER, CLASS_SPACE, CLASS_OTHER } wisp_class;

typedef struct wisp_cursor {
  const char *text;
  size_t size;
} wisp_cursor;

static bool same_name(const char *known, const char *name, size_t size) {
  return strlen(known) == size && memcmp(known, name, size) == 0;
}

const wisp_pretokenizer *wisp_pretokenizer_find(const char *name, size_t size) {
  for (size_t i = 0; i < sizeof pretokenizers / sizeof *pretokenizers; i++) {
    const wisp_pretokenizer *rules = &pretokenizers[i];
    if (same_name(rules->name, name, size)) return rules;
    for (const char *const *alias = rules->aliases; *alias; alias++) {
      if (same_name(*alias, name, size)) return rules;
    }
  }
  return NULL;
}

const char *wisp_pretokenizer_names(void) {
  return names;
}

/* \p{L}, \p{N}, \s and the rest. */
static wisp_class classify(int32_t point) {
  switch (utf8proc_category(point)) {
  case UTF8PROC_CATEGORY_LU:
  case UTF8PROC_CATEGORY_LL:
  case UTF8PROC_CATEGORY_LT:
  case UTF8PROC_CATEGORY_LM:
  case UTF8PROC_CATEGORY_LO:
    return CLASS_LETTER;
  case UTF8PROC_CATEGORY_ND:
  case UTF8PROC_CATEGORY_NL:
  case UTF8PROC_CATEGORY_NO:
    return CLASS_NUMBER;
  case UTF8PROC_CATEGORY_ZS:
  case UTF8PROC_CATEGORY_ZL:
  case UTF8PROC_CATEGORY_ZP:
    return CLASS_SPACE;
  default:
    return (point >= '\t' && point <= '\r') || point == 0x85 ? CLASS_SPACE : CLASS_OTHER;
  }
}

/* Class of the character at offset, CLASS_END behind the text; *next is the offset behind it. */
static wisp_class look(const wisp_cursor *cursor, size_t offset, size_t *next) {
  *next = offset;
  if (offset == cursor->size) return CLASS_END;
  unsigned char byte = (unsigned char)cursor->text[offset];
  *next = offset + 1;
  if (byte < 0x80) {
    unsigned char letter = byte | 0x20;
    if (letter >= 'a' && letter <= 'z') return CLASS_LETTER;
    if (byte >= '0' && byte <= '9') return CLASS_NUMBER;
    return byte == ' ' || (byte >= '\t' && byte <= '\r') ? CLASS_SPACE : CLASS_OTHER;
  }
  size_t left = cursor->size - offset;
  int32_t point;
  utf8proc_ssize_t length = utf8proc_iterate((const uint8_t *)cursor->text + offset, (utf8proc_ssize_t)(left < 4 ? left : 4),
                                             &point);
  if (length <= 0) return CLASS_OTHER;
  *next = offset + (size_t)length;
  return classify(point);
}

static wisp_class class_at(const wisp_cursor *cursor, size_t offset) {
  size_t next;
  return look(cursor, offset, &next);
}

/* Offset behind at most limit (0 = all) characters of a class. */
static size_t run(const wisp_cursor *cursor, size_t offset, wisp_class class, size_t limit) {
  size_t next;
  for (size_t i = 0; (limit == 0 || i < limit) && look(cursor, offset, &next) == class; i++) offset = next;
  return offset;
}

static bool is_newline(const wisp_cursor *cursor, size_t offset) {
  return offset < cursor->size && (cursor->text[offset] == '\n' || cursor->text[offset] == '\r');
}

/* Bytes of 's 't 're 've 'm 'll 'd at the start of the text, or 0. */
static size_t contraction(const wisp_cursor *cursor, bool fold_case) {
  static const char *const endings[] = {"s", "t", "re", "ve", "m", "ll", "d"};
  if (cursor->text[0] != '\'') return 0;
  for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
    size_t length = strlen(endings[i]), same = 0;
    if (cursor->size <= length) continue;
    for (; same < length; same++) {
      char c = cursor->text[1 + same];
      if (fold_case && c >= 'A' && c <= 'Z') c = (char)(c - 'A' + 'a');
      if (c != endings[i][same]) break;
    }
    if (same == length) return 1 + length;
  }
  return 0;
}

/* White space: up to its last newline (cl100k), else all but the last character, which belongs to the word behind. */
static size_t white_space(const wisp_pretokenizer *rules, const wisp_cursor *cursor) {
  size_t end = 0, last = 0, newline = 0, next;
  while (look(cursor, end, &next) == CLASS_SPACE) {
    if (is_newline(cursor, end)) newline = next;
    last = end;
    end = next;
  }
  if (rules->cl100k && newline > 0) return newline;
  wisp_class behind = class_at(cursor, end);
  bool ends = behind == CLASS_END || (rules->digits_apart && behind == CLASS_NUMBER);
  return ends || last == 0 ? end : last;
}

size_t wisp_pretokenize(const wisp_pretokenizer *rules, const char *text, size_t size) {
  wisp_cursor cursor = {text, size};
  size_t length = contraction(&cursor, rules->cl100k);
  if (length > 0) return length;

  size_t second;
  wisp_class first = look(&cursor, 0, &second);
  bool space = text[0] == ' ';
  wisp_class behind = class_at(&cursor, second);

  if (first == CLASS_LETTER) return run(&cursor, second, CLASS_LETTER, 0);
  bool prefix = rules->cl100k ? first != CLASS_NUMBER && !is_newline(&cursor, 0) : space;
  if (prefix && behind == CLASS_LETTER) return run(&cursor, second, CLASS_LETTER, 0);

  if (first == CLASS_NUMBER) return run(&cursor, 0, CLASS_NUMBER, rules->digits);
  if (space && behind == CLASS_NUMBER && rules->digits == 0) return run(&cursor, second, CLASS_NUMBER, 0);

  if (first == CLASS_OTHER || (space && behind == CLASS_OTHER)) {
    size_t end = run(&cursor, second, CLASS_OTHER, 0);
    while (rules->cl100k && is_newline(&cursor, end)) end++;
    return end;
  }
  return white_space(rules, &cursor);
}
