/* SPDX-License-Identifier: Apache-2.0
 * wisp-bench: how fast a model is on each device. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/model.h"
#include "common/platform.h"
#include "common/report.h"
#include "measure.h"
#include "profile.h"
#include "rows.h"
#include "startup.h"
#include "table.h"

enum { DEVICES_MAX = 16, LISTED_MAX = 64 };

typedef struct bench_options {
  model_options model;
  args_names synthetic, devices;
  measure_tests tests;
  const char *json, *csv; /* "-" = standard output */
  const char *trace;      /* of the profile */
  bool profile, start_up;
  bool any_device; /* no --device given: one that is missing is a warning */
} bench_options;

static const char *const default_devices = "vulkan,cpu";

/* What there is; the CPU is last. */
typedef struct machine {
  wisp_device_info devices[LISTED_MAX];
  uint32_t count;
} machine;

static const wisp_device_info *first_gpu(const machine *here) {
  for (uint32_t i = 0; i < here->count; i++) {
    if (!strcmp(here->devices[i].backend, "vulkan") && here->devices[i].usable) return &here->devices[i];
  }
  return NULL;
}

static void print_machine(FILE *file, const machine *here) {
  char date[32] = "";
  time_t now = time(NULL);
  struct tm utc;
  if (gmtime_r(&now, &utc)) strftime(date, sizeof date, "%Y-%m-%d", &utc);
  const wisp_device_info *gpu = first_gpu(here);
  fprintf(file, "%s, %u cores | ", here->count ? here->devices[here->count - 1].name : "unknown CPU", platform_cores());
  if (gpu) {
    fprintf(file, "%s, %s", gpu->name, gpu->driver);
  } else {
    fputs("no Vulkan device", file);
  }
  fprintf(file, " | %s | wisp %s\n", date, wisp_version());
}

/* All the files, after the last measurement; false after an error line. */
static bool write_rows(const char *path, const rows *list, void (*write)(const rows *list, FILE *file)) {
  if (!path) return true;
  if (!strcmp(path, "-")) {
    write(list, stdout);
    return true;
  }
  FILE *file = fopen(path, "wb");
  if (!file) {
    report_error("cannot write %s: %s", path, strerror(errno));
    return false;
  }
  write(list, file);
  bool failed = ferror(file) != 0;
  errno = 0;
  failed = fclose(file) != 0 || failed;
  if (failed) report_error("cannot write %s: %s", path, errno ? strerror(errno) : "an earlier write failed");
  return !failed;
}

/* Found out before minutes are spent on measuring; leaves no trace. */
static bool can_write(const char *path) {
  if (!path || !strcmp(path, "-")) return true;
  const bool absent = platform_file_kind(path) == PLATFORM_ABSENT;
  FILE *file = fopen(path, "ab");
  if (file) fclose(file);
  if (file && absent) remove(path);
  if (!file) report_error("cannot write %s: %s", path, strerror(errno));
  return file != NULL;
}

/* How it starts on all devices. */
static int bench_start_up(const bench_options *options, const model_options *model, FILE *report_file, rows *list) {
  uint32_t prompt = 1;
  for (uint32_t i = options->tests.prompts.count; i > 0; i--)
    if (options->tests.prompts.items[i - 1]) prompt = options->tests.prompts.items[i - 1];
  for (uint32_t i = 0; i < options->devices.count; i++) {
    model_options on_device = *model;
    on_device.device = options->devices.items[i];
    platform_reset_peak_rss();
    const wisp_status status = startup_measure(&on_device, prompt, options->tests.repetitions, list, report_file);
    report_progress(NULL, NULL, 0);
    const bool missing = status == WISP_ERROR_DEVICE && options->any_device && strcmp(on_device.device, "cpu");
    if (missing) report_status_warning(status);
    if (status != WISP_OK && !missing) return report_status(status);
  }
  return REPORT_DONE;
}

/* Measures one model on all devices and prints its table. REPORT_DONE, or the exit code after an error line. */
static int bench_model(const bench_options *options, const model_options *model, const machine *here, FILE *report_file,
                       rows *list) {
  table_column columns[DEVICES_MAX];
  size_t first_row[DEVICES_MAX], column_count = 0, row_count = 0;
  bool first_model = list->count == 0;
  int code = REPORT_DONE;
  for (uint32_t i = 0; i < options->devices.count && code == REPORT_DONE; i++) {
    model_options on_device = *model;
    on_device.device = options->devices.items[i];
    platform_reset_peak_rss();
    wisp_engine *engine;
    wisp_status status = model_create(&on_device, WISP_LOAD_ALL, &engine);
    if (status == WISP_ERROR_DEVICE && options->any_device && strcmp(on_device.device, "cpu")) {
      report_status_warning(status);
      continue;
    }
    size_t before = list->count;
    measure_limits limits;
    if (status == WISP_OK) status = measure_device(engine, &options->tests, list, &limits);
    if (status == WISP_OK && options->profile) {
      const profile_options profile = {.context = options->tests.context,
                                       .depth = options->tests.depths.items[0],
                                       .kv_type = options->tests.kv_type,
                                       .gb_per_s = limits.copy_gb_per_s,
                                       .trace = options->trace};
      code = profile_print(engine, &profile, report_file);
    }
    wisp_engine_destroy(&engine);
    if (status != WISP_OK) {
      code = report_status(status);
    } else {
      row_count = list->count - before;
      first_row[column_count] = before;
      columns[column_count++] = (table_column){.device = on_device.device, .limits = limits};
    }
  }
  /* The list may have moved while it grew. */
  for (size_t i = 0; i < column_count; i++) columns[i].rows = list->items + first_row[i];
  if (first_model && column_count) print_machine(report_file, here);
  table_print(report_file, columns, column_count, row_count);
  fflush(report_file);
  return code;
}

static int bench(const bench_options *options, const machine *here) {
  if (!can_write(options->json) || !can_write(options->csv) || !can_write(options->trace)) return REPORT_FAILED;
  bool data_on_stdout = (options->json && !strcmp(options->json, "-")) || (options->csv && !strcmp(options->csv, "-"));
  FILE *report_file = data_on_stdout ? stderr : stdout;
  rows list = {0};
  int code = REPORT_DONE;
  uint32_t models = options->synthetic.count ? options->synthetic.count : 1;
  for (uint32_t i = 0; i < models && code == REPORT_DONE; i++) {
    model_options model = options->model;
    if (options->synthetic.count) model.synthetic = options->synthetic.items[i];
    code = options->start_up ? bench_start_up(options, &model, report_file, &list)
                             : bench_model(options, &model, here, report_file, &list);
  }
  if (code == REPORT_DONE && list.count == 0)
    code = report_error("nothing was measured: no device is usable; see wisp devices");
  if (list.count && !(write_rows(options->json, &list, rows_write_json) && write_rows(options->csv, &list, rows_write_csv))) {
    code = REPORT_FAILED;
  }
  rows_free(&list);
  return code;
}

static uint32_t largest(const args_numbers *numbers) {
  uint32_t most = 0;
  for (uint32_t i = 0; i < numbers->count; i++) most = numbers->items[i] > most ? numbers->items[i] : most;
  return most;
}

/* A list that was not given becomes one number; false when out of memory. */
static bool default_number(args_numbers *numbers, uint32_t number) {
  if (numbers->count) return true;
  numbers->items = malloc(sizeof *numbers->items);
  if (!numbers->items) return false;
  numbers->items[numbers->count++] = number;
  return true;
}

/* Small tests where every token takes long. */
static int fill_defaults(bench_options *o, const machine *here, const args_command *command) {
  const wisp_device_info *gpu = first_gpu(here);
  bool quick = gpu && strcmp(gpu->kind, "software");
  o->any_device = o->devices.count == 0;
  bool filled = (!o->any_device || args_names_split(&o->devices, default_devices)) &&
                default_number(&o->tests.prompts, quick ? 512 : 128) && default_number(&o->tests.replies, quick ? 128 : 32) &&
                default_number(&o->tests.depths, 0);
  if (!filled) return report_error("out of memory for the list of tests");
  if (o->devices.count > DEVICES_MAX) return args_mistake(command, "--device takes at most %d devices", DEVICES_MAX);
  for (uint32_t i = 0; i < o->devices.count; i++) {
    if (model_device_valid(o->devices.items[i])) continue;
    return args_mistake(command, "--device takes a list of auto, cpu, vulkan, vulkan:INDEX, not '%s'", o->devices.items[i]);
  }
  uint32_t prompt = largest(&o->tests.prompts), reply = largest(&o->tests.replies);
  if (prompt == 0 && reply == 0) return args_mistake(command, "-p 0 -n 0 leaves nothing to measure");
  /* One token is appended before each reply, and one made after the first prompt. */
  o->profile = o->profile || o->trace;
  if (o->profile && reply < PROFILE_TOKENS) reply = PROFILE_TOKENS;
  uint32_t needed = largest(&o->tests.depths) + (prompt > reply ? prompt : reply) + 1;
  if (o->model.context && o->model.context < needed) {
    return args_mistake(command, "--ctx %u is too small for these tests, which need %u", o->model.context, needed);
  }
  if (!o->model.context) o->model.context = needed;
  o->tests.context = o->model.context;
  o->tests.kv_type = (wisp_kv_type)o->model.kv;
  return ARGS_OK;
}

/* "-" is one file, too. */
static bool same_output(const char *a, const char *b) {
  return a && b && (!strcmp(a, b) || platform_same_file(a, b));
}

static int check(bench_options *o, const args_command *command) {
  const char *outputs[] = {o->json, o->csv, o->trace};
  for (size_t j = 0; j < sizeof outputs / sizeof *outputs; j++)
    if (!model_is_safe(&o->model, outputs[j])) return args_mistake(command, "the model would be overwritten: %s", outputs[j]);
  if (same_output(o->json, o->csv)) return args_mistake(command, "--json and --csv write to the same file");
  if (o->trace && !strcmp(o->trace, "-")) return args_mistake(command, "--trace takes a file, not '-'");
  if (same_output(o->trace, o->json) || same_output(o->trace, o->csv))
    return args_mistake(command, "--trace writes to the file of --json or --csv");
  if (o->start_up && (o->profile || o->trace || o->tests.sessions))
    return args_mistake(command, "--start-up measures only that: no --profile, --trace or --sessions");
  model_options model = o->model;
  uint32_t i = 0;
  int code;
  do {
    if (o->synthetic.count) model.synthetic = o->synthetic.items[i];
    code = model_check(&model, command);
  } while (code == ARGS_OK && ++i < o->synthetic.count);
  return code;
}

static void list_devices(machine *here) {
  wisp_host host = report_host();
  if (wisp_devices(&host, here->devices, LISTED_MAX, &here->count) != WISP_OK) here->count = 0;
  if (here->count > LISTED_MAX) here->count = LISTED_MAX;
  report_forget(); /* creating the engine says it again */
}

static int command_bench(int argc, char **argv) {
  bench_options o = {.tests = {.repetitions = 5}};
  bool version = false;
  const args_option options[] = {
      MODEL_OPTION_FILE(o.model),
      ARG_NAMES("--synthetic", NULL, &o.synthetic, "NAME,..", "random weights of named shapes instead of a file"),
      ARG_TEXT("--type", NULL, &o.model.type, "TYPE", "their weight type: q4_0 (default), q8_0, f16, ..."),
      ARG_NUMBERS("-p", "--prompt", &o.tests.prompts, 0, 1 << 20, "prompt tokens; default 512, on software GPUs and CPUs 128"),
      ARG_NUMBERS("-n", "--tokens", &o.tests.replies, 0, 1 << 20, "tokens to make; default 128, there 32"),
      ARG_NUMBERS("-d", "--depth", &o.tests.depths, 0, 1 << 20, "tokens held before the test; default 0"),
      ARG_U32("-r", "--repetitions", &o.tests.repetitions, 1, 1000, "repetitions after the warm-up; default 5"),
      ARG_U32("--sessions", NULL, &o.tests.sessions, 1, 64, "replies also by so many sessions at once, summed: tg32x4"),
      ARG_NAMES("--device", NULL, &o.devices, "D,..", "default vulkan,cpu; see wisp devices"),
      MODEL_OPTION_KV(o.model),
      MODEL_OPTIONS_THREADS(o.model),
      ARG_U32("--ctx", "-c", &o.model.context, 1, UINT32_MAX, "tokens that the context has room for; default as needed"),
      ARG_TEXT("--json", NULL, &o.json, "FILE", "write the rows as JSON, - = standard output (the table goes to stderr)"),
      ARG_TEXT("--csv", NULL, &o.csv, "FILE", "write the rows as CSV, - = standard output"),
      ARG_FLAG("--start-up", NULL, &o.start_up, "instead: start to first token, without pipeline cache and with it"),
      ARG_FLAG("--profile", NULL, &o.profile, "what a token's time on the GPU goes to, op by op"),
      ARG_TEXT("--trace", NULL, &o.trace, "FILE", "that as a trace for chrome://tracing or ui.perfetto.dev"),
      MODEL_OPTION_VERBOSE(o.model),
      ARG_FLAG("--version", NULL, &version, "say which version this is"),
  };
  const args_command command = {
      .name = "wisp-bench",
      .operands = "",
      .summary = "Measures a model on the GPU and the CPU: prompts (pp), replies (tg), start-up, memory.",
      .options = options,
      .option_count = sizeof options / sizeof options[0]};
  int code = args_parse(&command, argc, argv);
  if (code == ARGS_OK && version) {
    printf("wisp-bench %s\n", wisp_version());
    code = REPORT_DONE;
  }
  if (code == ARGS_OK) code = check(&o, &command);
  machine *here = code == ARGS_OK ? calloc(1, sizeof *here) : NULL;
  if (code == ARGS_OK && !here) code = report_error("out of memory for the list of devices");
  if (code == ARGS_OK) {
    list_devices(here);
    code = fill_defaults(&o, here, &command);
  }
  if (code == ARGS_OK) code = bench(&o, here);
  free(here);
  args_names_free(&o.synthetic);
  args_names_free(&o.devices);
  args_numbers_free(&o.tests.prompts);
  args_numbers_free(&o.tests.replies);
  args_numbers_free(&o.tests.depths);
  return code;
}

int main(int argc, char **argv) {
  report_init("wisp-bench");
  int code = command_bench(argc, argv);
  errno = 0;
  if ((fflush(stdout) || ferror(stdout)) && code == REPORT_DONE) {
    code = report_error("cannot write standard output: %s", errno ? strerror(errno) : "an earlier write failed");
  }
  report_finish(code == REPORT_DONE);
  return code;
}
