// SPDX-License-Identifier: Apache-2.0
// Runs all workgroups of a shader side by side, as the persistent kernel needs it, on this thread.
#pragma once

#include "lanes.hpp"

namespace emulation {

struct Grid {
  uint32_t groups, lanes, subgroup_size;
  int32_t slow_group; // often pauses while the others go on; -1: none
  bool strict;        // Scheduler
};

// Shader: made by glsl_to_cpp.py, a Lane with main().
template <class Shader> class Dispatch {
public:
  // Throws a Fault where anything goes wrong. seed: of all that is random.
  static void run(const Grid &grid, uint32_t seed) { Dispatch(grid, seed).run_all(); }

private:
  struct Fiber {
    Dispatch *dispatch;
    Shader *shader;
    Lane *lane; // the shader, without the names of its own
    uint32_t group;
    bool begun;
    ucontext_t context;
    std::unique_ptr<char[]> stack;
  };

  enum { MOST_ROUNDS = 1 << 20, MOST_PAUSE = 512, STACK_END = 64 };
  const Grid grid;
  Scheduler scheduler;
  std::vector<std::unique_ptr<Group>> groups;
  std::vector<std::vector<Lane *>> lanes; // of each group
  std::vector<Fiber> fibers;
  std::string failure;

  Dispatch(const Grid &grid, uint32_t seed) : grid(grid), lanes(grid.groups), fibers(grid.groups * grid.lanes) {
    scheduler.strict = grid.strict;
    scheduler.traffic.random.seed(seed);
    for (uint32_t g = 0; g < grid.groups; g++) {
      groups.push_back(std::make_unique<Group>());
      Group &group = *groups.back();
      group.members = &lanes[g];
      group.lanes = grid.lanes;
      group.subgroups.resize(grid.lanes / grid.subgroup_size);
      group.subgroup_lanes.assign(grid.lanes / grid.subgroup_size, grid.subgroup_size);
      for (uint32_t l = 0; l < grid.lanes; l++) add(g, l);
    }
    scheduler.ready.clear();
    for (auto &each : lanes) scheduler.ready.insert(scheduler.ready.end(), each.begin(), each.end());
  }

  ~Dispatch() {
    for (Fiber &f : fibers) ::operator delete(f.shader);
  }
  Dispatch(const Dispatch &) = delete;

  void add(uint32_t group, uint32_t lane) {
    Fiber &f = fibers[group * grid.lanes + lane];
    f.dispatch = this;
    f.group = group;
    f.begun = false;
    f.stack = std::unique_ptr<char[]>(new char[STACK_BYTES]);
    memset(f.stack.get(), POISON, STACK_END);
    void *memory = ::operator new(sizeof(Shader));
    memset(memory, POISON, sizeof(Shader));
    asm volatile("" : : "r"(memory) : "memory"); // the constructor leaves it as it is
    f.shader = new (memory) Shader(scheduler, *groups[group], group, lane, grid.subgroup_size);
    f.lane = f.shader;
    f.lane->fiber = &f;
    lanes[group].push_back(f.lane);
  }

  // makecontext hands over ints.
  static void begin(uint32_t low, uint32_t high) {
    Fiber &f = *reinterpret_cast<Fiber *>(uintptr_t{low} | uintptr_t{high} << 16 << 16);
    try {
      f.shader->main();
      f.lane->end();
    } catch (const Fault &fault) {
      f.lane->state = Lane::ENDED;
      if (f.dispatch->failure.empty()) f.dispatch->failure = fault.what;
    }
    _longjmp(f.dispatch->scheduler.here, 1);
  }

  void resume(Fiber &f) {
    if (_setjmp(scheduler.here)) return;
    if (f.begun) _longjmp(f.lane->here, 1);
    f.begun = true;
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = f.stack.get();
    f.context.uc_stack.ss_size = STACK_BYTES;
    f.context.uc_link = nullptr;
    const uintptr_t at = reinterpret_cast<uintptr_t>(&f);
    makecontext(&f.context, reinterpret_cast<void (*)()>(begin), 2, static_cast<uint32_t>(at),
                static_cast<uint32_t>(at >> 16 >> 16));
    setcontext(&f.context);
  }

  void run_all() {
    std::vector<Lane *> round;
    std::mt19937 &random = scheduler.traffic.random;
    for (uint32_t rounds = 0, paused_until = 0; !scheduler.ready.empty(); rounds++) {
      if (rounds == MOST_ROUNDS) fault("no end after %u rounds", rounds);
      round.swap(scheduler.ready);
      scheduler.ready.clear();
      if (rounds % 4 == 0) std::shuffle(round.begin(), round.end(), random);
      const bool pause = rounds < paused_until;
      if (!pause && random() % 8 == 0) paused_until = rounds + random() % MOST_PAUSE;
      for (Lane *lane : round) {
        Fiber &f = *static_cast<Fiber *>(lane->fiber);
        if (!pause || static_cast<int32_t>(f.group) != grid.slow_group) resume(f);
        if (!failure.empty()) throw Fault{failure};
        if (lane->state == Lane::READY) scheduler.ready.push_back(lane);
      }
      if (random() % 4 == 0) scheduler.traffic.arrive();
    }
    scheduler.traffic.arrive();
    for (const Fiber &f : fibers)
      if (std::any_of(&f.stack[0], &f.stack[STACK_END], [](char c) { return c != static_cast<char>(POISON); }))
        fault("an invocation needs more than STACK_BYTES of lanes.hpp");
    for (auto &group : groups)
      if (group->lanes)
        fault("%u lanes wait for others that have ended or wait elsewhere; %zu at a barrier, %s:%d", group->lanes,
              group->barrier.waiting.size(), group->barrier.place.file, group->barrier.place.line);
  }
};

} // namespace emulation
