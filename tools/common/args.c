/* SPDX-License-Identifier: Apache-2.0 */
#include "args.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"

int args_mistake(const args_command *command, const char *format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  report_error("%s; see '%s --help'", text, command->name);
  return REPORT_USAGE;
}

static void usage(const args_command *command) {
  printf("usage: %s [options]%s%s\n%s\n\n", command->name, *command->operands ? " " : "", command->operands, command->summary);
  for (size_t i = 0; i < command->option_count; i++) {
    const args_option *option = &command->options[i];
    char left[64];
    snprintf(left, sizeof left, "%s%s%s%s%s", option->name, option->alias ? ", " : "", option->alias ? option->alias : "",
             option->holder ? " " : "", option->holder ? option->holder : "");
    printf("  %-28s %s\n", left, option->help);
  }
  printf("  %-28s %s\n", "-h, --help", "this text");
}

static const args_option *find(const args_command *command, const char *name, size_t length) {
  for (size_t i = 0; i < command->option_count; i++) {
    const args_option *option = &command->options[i];
    if (strlen(option->name) == length && !memcmp(option->name, name, length)) return option;
    if (option->alias && strlen(option->alias) == length && !memcmp(option->alias, name, length)) return option;
  }
  return NULL;
}

/* strtoul accepts signs and blanks; a count does not. */
static bool parse_u64(const char *text, uint64_t *value) {
  if (*text < '0' || *text > '9') return false;
  char *end;
  errno = 0;
  *value = strtoull(text, &end, 10);
  return *end == '\0' && errno == 0;
}

static bool parse_float(const char *text, double *value) {
  char *end;
  *value = strtod(text, &end);
  return end != text && *end == '\0' && isfinite(*value) && *text != ' ';
}

static int bad_number(const args_command *command, const args_option *option, const char *text) {
  if (option->type == ARGS_U64) return args_mistake(command, "%s takes a number, not '%s'", option->name, text);
  const char *kind = option->type == ARGS_FLOAT ? "a number" : "a whole number";
  return args_mistake(command, "%s takes %s from %.10g to %.10g, not '%s'", option->name, kind, option->min, option->max, text);
}

bool args_names_split(args_names *names, const char *text) {
  size_t length = strlen(text), count = 1;
  for (const char *c = text; *c; c++) count += *c == ',';
  char **items = malloc(count * sizeof *items + length + 1);
  if (!items) return false;
  char *copy = (char *)(items + count);
  memcpy(copy, text, length + 1);
  for (size_t i = 0; i < count; i++) {
    items[i] = copy;
    copy += strcspn(copy, ",");
    *copy++ = '\0';
  }
  names->items = items;
  names->count = (uint32_t)count;
  return true;
}

void args_names_free(args_names *names) {
  free(names->items);
  *names = (args_names){0};
}

void args_numbers_free(args_numbers *numbers) {
  free(numbers->items);
  *numbers = (args_numbers){0};
}

static bool in_range(const args_option *option, double value) {
  return value >= option->min && value <= option->max;
}

static int parse_numbers(const args_command *command, const args_option *option, const char *text) {
  args_numbers *numbers = option->value;
  args_names names;
  if (!args_names_split(&names, text)) return args_mistake(command, "out of memory");
  args_numbers_free(numbers);
  int code = ARGS_OK;
  numbers->items = malloc(names.count * sizeof *numbers->items);
  if (!numbers->items) code = args_mistake(command, "out of memory");
  for (uint32_t i = 0; code == ARGS_OK && i < names.count; i++) {
    uint64_t number;
    if (parse_u64(names.items[i], &number) && in_range(option, (double)number)) {
      numbers->items[numbers->count++] = (uint32_t)number;
    } else {
      code = bad_number(command, option, names.items[i]);
    }
  }
  args_names_free(&names);
  return code;
}

static int parse_choice(const args_command *command, const args_option *option, const char *text) {
  char list[256] = "";
  for (unsigned i = 0; option->choices[i]; i++) {
    if (!strcmp(option->choices[i], text)) {
      *(unsigned *)option->value = i;
      return ARGS_OK;
    }
    size_t used = strlen(list);
    snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", option->choices[i]);
  }
  return args_mistake(command, "%s takes one of %s, not '%s'", option->name, list, text);
}

static int parse_value(const args_command *command, const args_option *option, const char *text) {
  uint64_t number;
  double real;
  switch (option->type) {
  case ARGS_FLAG:
    *(bool *)option->value = true;
    return ARGS_OK;
  case ARGS_TEXT:
    *(const char **)option->value = text;
    return ARGS_OK;
  case ARGS_U32:
    if (!parse_u64(text, &number) || !in_range(option, (double)number)) return bad_number(command, option, text);
    *(uint32_t *)option->value = (uint32_t)number;
    return ARGS_OK;
  case ARGS_U64:
    if (!parse_u64(text, &number)) return bad_number(command, option, text);
    *(uint64_t *)option->value = number;
    return ARGS_OK;
  case ARGS_FLOAT:
    if (!parse_float(text, &real) || !in_range(option, real)) return bad_number(command, option, text);
    *(float *)option->value = (float)real;
    return ARGS_OK;
  case ARGS_CHOICE:
    return parse_choice(command, option, text);
  case ARGS_NUMBERS:
    return parse_numbers(command, option, text);
  case ARGS_NAMES:
    args_names_free(option->value);
    return args_names_split(option->value, text) ? ARGS_OK : args_mistake(command, "out of memory");
  }
  return ARGS_OK;
}

int args_parse(const args_command *command, int argc, char **argv) {
  bool options = true;
  size_t operands = 0;
  for (int i = 1; i < argc; i++) {
    const char *word = argv[i];
    if (options && !strcmp(word, "--")) {
      options = false;
    } else if (options && word[0] == '-' && word[1]) {
      if (!strcmp(word, "--help") || !strcmp(word, "-h")) {
        usage(command);
        return REPORT_DONE;
      }
      size_t length = word[1] == '-' ? strcspn(word, "=") : strlen(word);
      const char *text = word[length] ? word + length + 1 : NULL;
      const args_option *option = find(command, word, length);
      if (!option) return args_mistake(command, "unknown option '%s'", word);
      if (option->type == ARGS_FLAG && text) return args_mistake(command, "%s takes no value", option->name);
      if (option->type != ARGS_FLAG && !text) {
        if (++i == argc) return args_mistake(command, "%s needs a value", word);
        text = argv[i];
      }
      int code = parse_value(command, option, text);
      if (code != ARGS_OK) return code;
    } else {
      if (operands == command->operand_count) return args_mistake(command, "unexpected argument '%s'", word);
      command->operands_to[operands++] = word;
    }
  }
  return ARGS_OK;
}
