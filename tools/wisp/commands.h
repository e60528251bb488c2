/* SPDX-License-Identifier: Apache-2.0
 * The sub-commands: each takes its own argv ([0] is its name) and returns the exit code. */
#ifndef WISP_TOOLS_COMMANDS_H
#define WISP_TOOLS_COMMANDS_H

int command_calibrate(int argc, char **argv);
int command_chat(int argc, char **argv);
int command_compare(int argc, char **argv);
int command_convert(int argc, char **argv);
int command_devices(int argc, char **argv);
int command_info(int argc, char **argv);
int command_logits(int argc, char **argv);
int command_perplexity(int argc, char **argv);
int command_run(int argc, char **argv);
int command_tokenize(int argc, char **argv);
int command_tune(int argc, char **argv);

#endif
