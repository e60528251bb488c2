// SPDX-License-Identifier: Apache-2.0
// The persistent kernel (shaders/persistent.comp), translated to C++ and run on a CPU, against the CPU executor: logits, next
// token, step buffer. Then mutants of the shader, each of which has to be seen. Ends with "N passed, N failed, N skipped".
//
//   persistent [--seed N] [NAME...]      cases and mutants whose names contain one of these
#include <cstdlib>
#include <ctime>

#include "dispatch.hpp"
#include "glsl.hpp"
#include "subject.h"

namespace emulation {
#include "persistent_shader.hpp"
}

using emulation::Shader;

namespace {

struct Case {
  const char *name;
  subject_params subject;
  int32_t slow = -1;    // workgroup
  bool missing = false; // a workgroup
  uint32_t seeds = 1;
};

// clang-format off
const Case cases[] = {
    {"plain", {.model = "tiny", .type = "f32", .kv_f32 = true, .groups = 12, .local = 64, .tokens = 3}, -1, false, 3},
    {"slow", {.model = "tiny", .type = "f32", .kv_f32 = true, .groups = 12, .local = 64, .split = 16, .held = 37, .tokens = 3},
     5, false, 2},
    {"slow, the one that chooses the token",
     {.model = "tiny", .type = "q4_0", .groups = 12, .local = 64, .split = 16, .held = 30, .tokens = 3}, 0},
    {"slow, without rows of attn_out",
     {.model = "tiny-ls", .type = "f32", .kv_f32 = true, .groups = 20, .local = 64, .tokens = 2}, 17},
    {"f16, 384 invocations", {.model = "tiny", .type = "f16", .groups = 8, .local = 384, .tokens = 2}},
    {"bf16, 512 invocations", {.model = "tiny", .type = "bf16", .groups = 5, .local = 512, .held = 9, .tokens = 2}},
    {"q4_0, 256 invocations", {.model = "tiny", .type = "q4_0", .groups = 9, .local = 256, .tokens = 3}},
    {"q4_1, f32 cache",
     {.model = "tiny", .type = "q4_1", .kv_f32 = true, .groups = 32, .local = 64, .split = 16, .held = 100, .tokens = 3}},
    {"q5_1, GELU", {.model = "tiny", .type = "q5_1", .gelu = true, .groups = 6, .local = 128, .held = 3, .tokens = 2}},
    {"blocks run twice, q8_0, biases",
     {.model = "tiny-ls", .type = "q8_0", .bias = true, .groups = 12, .local = 128, .split = 16, .held = 60, .tokens = 3}},
    {"blocks run twice, f32, few workgroups",
     {.model = "tiny-ls", .type = "f32", .kv_f32 = true, .groups = 4, .local = 128, .tokens = 2}},
    {"heads of 32, q4_0", {.model = "tiny-32", .type = "q4_0", .groups = 13, .local = 96, .split = 8, .held = 50, .tokens = 3}},
    {"heads of 32, blocks run twice, q8_0",
     {.model = "tiny-32-ls", .type = "q8_0", .groups = 10, .local = 128, .held = 11, .tokens = 2}},
    {"subgroups of 64",
     {.model = "tiny", .type = "f16", .groups = 12, .local = 128, .split = 16, .subgroup_size = 64, .held = 40, .tokens = 2}},
    {"many positions", {.model = "tiny", .type = "q8_0", .groups = 24, .local = 64, .held = 500, .tokens = 2}},
    {"rows of 350m, q4_0",
     {.model = "mobilellm-350m", .type = "q4_0", .blocks = 2, .vocabulary = 999, .groups = 30, .split = 8, .held = 20, .tokens = 1}},
    {"rows of 125m, f16, biases, GELU",
     {.model = "mobilellm-125m", .type = "f16", .blocks = 2, .vocabulary = 500, .bias = true, .gelu = true, .groups = 16, .held = 3,
      .tokens = 1}},
    {"a workgroup missing", {.model = "tiny", .type = "q4_0", .groups = 12, .local = 64, .tokens = 1}, -1, true},
    {"a workgroup missing, splits",
     {.model = "tiny", .type = "f32", .kv_f32 = true, .groups = 12, .local = 64, .split = 8, .held = 40, .tokens = 1}, -1, true},
};
// clang-format on

// Sums are in another order; an f16 cache then rounds a few values the other way.
const double MOST_NMSE = 1e-12, MOST_NMSE_F16 = 1e-8;
enum {
  MISSING_SPINS = 300, // who waits in vain does so for long
  MUTANT_SEEDS = 16    // some faults need an order of events that not every seed brings
};

template <class T> T *memory(const subject &s, uint32_t binding) {
  return static_cast<T *>(s.buffers[binding].memory);
}

void bind(const subject &s) {
  Shader::each_constant([&](uint32_t index, auto *constant) {
    static_assert(sizeof *constant == sizeof s.constants[0]);
    memcpy(constant, &s.constants[index], sizeof *constant);
  });
  Shader::each_buffer(
      [&](uint32_t binding, auto &buffer) { buffer.bind(s.buffers[binding].memory, s.buffers[binding].bytes); });
  Shader::push = {0, s.kv_stride, 0, 0};
}

// Empty, or what is wrong with the token at position and what the shader has left for the next one.
std::string judge(const subject &s, uint32_t position, uint32_t serial, double *worst) {
  char text[160] = "";
  const float *logits = memory<float>(s, WISP_BIND_DATA) + s.constants[WISP_P_LOGITS];
  const uint32_t *steps = memory<uint32_t>(s, WISP_BIND_STEP), *tokens = memory<uint32_t>(s, WISP_BIND_TOKENS);
  double error = 0, power = 0;
  uint32_t best = 0;
  for (uint32_t i = 0; i < s.vocabulary; i++) {
    error += (logits[i] - s.logits[i]) * static_cast<double>(logits[i] - s.logits[i]);
    power += s.logits[i] * static_cast<double>(s.logits[i]);
    if (logits[i] > logits[best]) best = i;
  }
  const double nmse = error / power;
  if (!(nmse <= *worst)) *worst = nmse;
  if (steps[WISP_STEP_FAILED])
    snprintf(text, sizeof text, "a mail was waited for in vain");
  else if (!(nmse <= (s.constants[WISP_P_KV_F32] ? MOST_NMSE : MOST_NMSE_F16)))
    snprintf(text, sizeof text, "NMSE %.3g", nmse);
  else if (tokens[position + 1] != best)
    snprintf(text, sizeof text, "the next token is %u, not %u", tokens[position + 1], best);
  else if (steps[WISP_STEP_POSITION] != position + 1 || steps[WISP_STEP_COUNT] != 1 || steps[WISP_STEP_SERIAL] != serial + 1)
    snprintf(text, sizeof text, "steps: position %u, count %u, serial %u", steps[WISP_STEP_POSITION], steps[WISP_STEP_COUNT],
             steps[WISP_STEP_SERIAL]);
  return text;
}

// A token without one of its workgroups must end and say so, and those behind it in the same submit must do nothing.
std::string judge_missing(const subject &s, emulation::Grid grid) {
  const uint32_t *steps = memory<uint32_t>(s, WISP_BIND_STEP), position = steps[WISP_STEP_POSITION];
  if (!steps[WISP_STEP_FAILED]) return "nobody misses the workgroup";
  grid.groups++;
  grid.strict = true;
  emulation::Dispatch<Shader>::run(grid, 1);
  const bool still = steps[WISP_STEP_FAILED] && steps[WISP_STEP_POSITION] == position && !steps[WISP_STEP_SERIAL];
  return still ? "" : "the next token was made all the same";
}

// One after the other, each from what the last one has left, as the engine submits them.
std::string make_tokens(subject &s, const Case &c, uint32_t seed, double *worst) {
  const uint32_t *constants = s.constants;
  const emulation::Grid grid = {constants[WISP_P_GROUPS] - c.missing, constants[WISP_P_LOCAL], constants[WISP_P_SUBGROUP],
                                c.slow, !c.missing};
  uint32_t *tokens = memory<uint32_t>(s, WISP_BIND_TOKENS);
  tokens[c.subject.held] = seed % s.vocabulary;
  for (uint32_t i = 0; i < c.subject.tokens; i++) {
    const uint32_t position = c.subject.held + i;
    emulation::Dispatch<Shader>::run(grid, seed);
    if (c.missing) return judge_missing(s, grid);
    if (!subject_append(&s, static_cast<int32_t>(tokens[position]))) return "the CPU executor failed";
    const std::string wrong = judge(s, position, i, worst);
    if (!wrong.empty()) return "token " + std::to_string(i) + ": " + wrong;
  }
  return "";
}

std::string run(const Case &c, uint32_t seed, double *worst) {
  subject s;
  std::string wrong = "cannot be set up";
  if (subject_open(&s, &c.subject)) {
    if (c.missing) s.constants[WISP_P_SPINS] = MISSING_SPINS;
    bind(s);
    try {
      wrong = make_tokens(s, c, seed, worst);
    } catch (const emulation::Fault &fault) {
      wrong = fault.what;
      if (wrong.rfind("failed: ", 0) == 0) wrong = "a mail was waited for in vain (" + wrong + ")"; // what it is written for
    }
  }
  subject_close(&s);
  return wrong;
}

// ---- Reports ----

struct Tally {
  uint32_t passed = 0, failed = 0;
  void report(bool right, const char *name, clock_t since, const std::string &said) {
    const double seconds = static_cast<double>(clock() - since) / CLOCKS_PER_SEC;
    printf("%-4s  %-55s %5.1f s  %s\n", right ? "ok" : "FAIL", name, seconds, said.c_str());
    fflush(stdout);
    (right ? passed : failed)++;
  }
};

void check_case(const Case &c, uint32_t seed, Tally &tally) {
  const clock_t since = clock();
  double worst = 0;
  std::string wrong;
  char nmse[40] = "";
  for (uint32_t i = 0; i < c.seeds && wrong.empty(); i++) wrong = run(c, seed + i, &worst);
  if (!c.missing) snprintf(nmse, sizeof nmse, "NMSE %.1e", worst);
  tally.report(wrong.empty(), c.name, since, wrong.empty() ? nmse : wrong);
}

// The number-th, from 1 on.
void check_mutant(int number, uint32_t seed, Tally &tally) {
  const clock_t since = clock();
  const emulation::Mutant &m = emulation::mutants[number - 1];
  const auto *c = std::find_if(std::begin(cases), std::end(cases), [&](const Case &each) { return !strcmp(each.name, m.run); });
  if (m.found != 1 || c == std::end(cases)) {
    const std::string found = "the text it replaces occurs " + std::to_string(m.found) + " times in the shader";
    tally.report(false, m.what, since, m.found != 1 ? found : "there is no such case");
    return;
  }
  double worst = 0;
  std::string wrong;
  Shader::mutant = number;
  for (uint32_t i = 0; i < MUTANT_SEEDS && wrong.empty(); i++) wrong = run(*c, seed + i, &worst);
  Shader::mutant = 0;
  tally.report(!wrong.empty(), m.what, since, wrong.empty() ? "a fault that is not seen" : "seen: " + wrong);
}

} // namespace

int main(int argc, char **argv) {
  uint32_t seed = 1;
  int names = 1;
  if (argc > 2 && !strcmp(argv[1], "--seed")) {
    seed = static_cast<uint32_t>(strtoul(argv[2], nullptr, 10));
    names = 3;
  }
  const auto wanted = [&](const char *name) {
    return argc == names || std::any_of(argv + names, argv + argc, [&](const char *part) { return strstr(name, part); });
  };
  Tally tally;
  for (const Case &c : cases)
    if (wanted(c.name)) check_case(c, seed, tally);
  for (int i = 1; i <= Shader::MUTANTS; i++)
    if (wanted(emulation::mutants[i - 1].what)) check_mutant(i, seed, tally);
  printf("%u passed, %u failed, 0 skipped\n", tally.passed, tally.failed);
  return tally.failed || !tally.passed;
}
