/* SPDX-License-Identifier: Apache-2.0
 * Command lines as data: a command is a table of options, parsed and explained by the same code. */
#ifndef WISP_TOOLS_ARGS_H
#define WISP_TOOLS_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct args_numbers { /* 1,2,3 */
  uint32_t *items;            /* [count], owned */
  uint32_t count;
} args_numbers;

typedef struct args_names { /* vulkan,cpu */
  char **items;             /* [count], owned, one allocation */
  uint32_t count;
} args_names;

typedef enum args_type {
  ARGS_FLAG,    /* bool */
  ARGS_TEXT,    /* const char *, points into argv */
  ARGS_U32,     /* uint32_t */
  ARGS_U64,     /* uint64_t */
  ARGS_FLOAT,   /* float */
  ARGS_CHOICE,  /* unsigned, index into choices */
  ARGS_NUMBERS, /* args_numbers */
  ARGS_NAMES    /* args_names */
} args_type;

typedef struct args_option {
  const char *name, *alias; /* "-m", "--model"; alias may be NULL */
  args_type type;
  void *value;        /* where it goes; untouched if the option is not given, the last one counts */
  const char *holder; /* "N", "FILE"; NULL for flags */
  const char *help;
  double min, max;            /* of numbers, inclusive; ARGS_U64 has none */
  const char *const *choices; /* ARGS_CHOICE: NULL-terminated */
} args_option;

#define ARG_FLAG(name, alias, value, help)                                                                                     \
  { name, alias, ARGS_FLAG, value, NULL, help, 0, 0, NULL }
#define ARG_TEXT(name, alias, value, holder, help)                                                                             \
  { name, alias, ARGS_TEXT, value, holder, help, 0, 0, NULL }
#define ARG_U32(name, alias, value, min, max, help)                                                                            \
  { name, alias, ARGS_U32, value, "N", help, min, max, NULL }
#define ARG_U64(name, alias, value, help)                                                                                      \
  { name, alias, ARGS_U64, value, "N", help, 0, 0, NULL }
#define ARG_FLOAT(name, alias, value, holder, min, max, help)                                                                  \
  { name, alias, ARGS_FLOAT, value, holder, help, min, max, NULL }
#define ARG_CHOICE(name, alias, value, holder, choices, help)                                                                  \
  { name, alias, ARGS_CHOICE, value, holder, help, 0, 0, choices }
#define ARG_NUMBERS(name, alias, value, min, max, help)                                                                        \
  { name, alias, ARGS_NUMBERS, value, "N,..", help, min, max, NULL }
#define ARG_NAMES(name, alias, value, holder, help)                                                                            \
  { name, alias, ARGS_NAMES, value, holder, help, 0, 0, NULL }

typedef struct args_command {
  const char *name;     /* "wisp run" */
  const char *operands; /* "[TEXT | -]" for the usage line, or "" */
  const char *summary;
  const args_option *options; /* [option_count] */
  size_t option_count;
  const char **operands_to; /* where operands go, in order; [operand_count] */
  size_t operand_count;     /* at most so many are taken */
} args_command;

/* argv[0] is skipped. Returns ARGS_OK, or the exit code with which to leave: 0 after --help (usage on stdout), 2 after a
 * mistake (one line on stderr). */
#define ARGS_OK (-1)
int args_parse(const args_command *command, int argc, char **argv);

/* One line that names the mistake and where help is; returns the exit code 2. */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
int args_mistake(const args_command *command, const char *format, ...);

void args_numbers_free(args_numbers *numbers);
void args_names_free(args_names *names);

/* Splits text at commas; false when out of memory. Empty items stay. */
bool args_names_split(args_names *names, const char *text);

#endif
