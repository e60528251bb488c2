/* SPDX-License-Identifier: Apache-2.0
 * The wisp command. */
#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>

#include <wisp/wisp.h>

#include "commands.h"
#include "common/report.h"

static const struct {
  const char *name;
  int (*run)(int argc, char **argv);
  const char *summary;
} commands[] = {
    {"run", command_run, "answer or continue one prompt"},
    {"chat", command_chat, "talk with a model"},
    {"info", command_info, "what a model is, what a token costs, its plan"},
    {"devices", command_devices, "list the devices that models can run on"},
    {"tokenize", command_tokenize, "text to token ids"},
    {"logits", command_logits, "logits of every position, as JSON"},
    {"perplexity", command_perplexity, "how well a model predicts a text"},
    {"compare", command_compare, "how far two files, or two devices, are apart on a text"},
    {"convert", command_convert, "write a model with its weights in another type"},
    {"tune", command_tune, "find the fastest way to decode on a device, and keep it"},
    {"calibrate", command_calibrate, "which columns matter, for wisp convert --importance"},
};
enum { COMMAND_COUNT = sizeof commands / sizeof commands[0] };

static int usage(void) {
  puts("usage: wisp COMMAND [options]\nSmall language models on any Vulkan GPU, and on the CPU beside it.\n");
  for (int i = 0; i < COMMAND_COUNT; i++) printf("  %-12s %s\n", commands[i].name, commands[i].summary);
  puts("\n'wisp COMMAND --help' explains a command; 'wisp --version' says which version this is.");
  return REPORT_DONE;
}

static int dispatch(int argc, char **argv) {
  if (argc < 2) {
    report_error("no command given; see 'wisp --help'");
    return REPORT_USAGE;
  }
  const char *name = argv[1];
  if (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help")) return usage();
  if (!strcmp(name, "--version")) {
    printf("wisp %s\n", wisp_version());
    return REPORT_DONE;
  }
  for (int i = 0; i < COMMAND_COUNT; i++) {
    if (!strcmp(name, commands[i].name)) return commands[i].run(argc - 1, argv + 1);
  }
  report_error("unknown command '%s'; see 'wisp --help'", name);
  return REPORT_USAGE;
}

int main(int argc, char **argv) {
  setlocale(LC_CTYPE, "");
  report_init("wisp");
  int code = dispatch(argc, argv);
  errno = 0;
  if ((fflush(stdout) || ferror(stdout)) && code == REPORT_DONE) {
    code = report_error("cannot write standard output: %s", errno ? strerror(errno) : "an earlier write failed");
  }
  report_finish(code == REPORT_DONE);
  return code;
}
