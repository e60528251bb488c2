// SPDX-License-Identifier: Apache-2.0
// A compute dispatch on a CPU thread: each invocation (lane) is a fiber, run in random order until it waits or looks at an
// atomic. What a GPU would forgive or hide is an error here: lanes that meet at different barriers, a barrier not reached by
// all, shared memory that is read before it is written or races between barriers, an index past an array or a buffer. Private
// memory holds 0xfe bytes before it is written (locals by -ftrivial-auto-var-init=pattern). Atomic stores may reach memory
// late, and out of order where they are to different words.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

namespace emulation {

enum { POISON = 0xfe, MOST_SUBGROUP = 64, STACK_BYTES = 32 << 10 };

struct Fault {
  std::string what;
};

[[noreturn]] __attribute__((format(printf, 1, 2))) inline void fault(const char *format, ...) {
  char text[256];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  throw Fault{text};
}

// ---- Memory of one invocation ----

// A private or local array. GLSL copies arrays by value, as this does.
template <class T, uint32_t MOST = 32> class Array {
public:
  explicit Array(uint32_t count) : count(count) {
    if (count > MOST) fault("an array of %u elements: more than %u, raise MOST in lanes.hpp", count, MOST);
    memset(static_cast<void *>(items), POISON, count * sizeof(T));
  }
  Array(uint32_t count, std::initializer_list<T> values) : Array(count) { std::copy(values.begin(), values.end(), items); }
  T &operator[](uint32_t i) {
    if (i >= count) fault("element %u of an array of %u", i, count);
    return items[i];
  }

private:
  union {
    T items[MOST];
  };
  uint32_t count;
};

// A storage buffer: what a binding shows of memory that others may show as another type.
template <class T> class Buffer {
public:
  explicit Buffer(const char *name) : name(name) {}
  void bind(void *memory, size_t bytes) {
    items = static_cast<T *>(memory);
    count = bytes / sizeof(T);
  }
  T &operator[](uint32_t i) const {
    if (i >= count) fault("%s[%u]: the buffer has %zu elements", name, i, count);
    return items[i];
  }

private:
  const char *name;
  T *items = nullptr;
  size_t count = 0;
};

// ---- Lanes and what they have in common ----

class Lane;

struct Place { // in the shader
  const char *file = "";
  int line = 0;
  bool operator==(const Place &other) const { return line == other.line && !strcmp(file, other.file); }
};
#define EMULATION_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

struct Meeting { // lanes that wait for each other
  std::vector<Lane *> waiting;
  Place place; // where they do
};

struct Word { // of shared memory; intervals between barriers are counted from 1 on
  uint32_t value = 0, written = 0, read = 0;
  Lane *writer = nullptr, *reader = nullptr; // in that interval; reader: null = several
};

struct Group {
  const std::vector<Lane *> *members;
  Meeting barrier;
  std::vector<Meeting> subgroups;
  std::vector<std::unique_ptr<std::vector<Word>>> shared; // a variable each, in the order of their declarations
  uint32_t lanes = 0;                                     // that have not ended
  std::vector<uint32_t> subgroup_lanes;
};

// Atomic operations on their way to memory. Those on one word keep their order.
class Traffic {
public:
  std::mt19937 random;
  void store(uint64_t &word, uint64_t value) { post({&word, value, false}); }
  void add(uint64_t &word, uint64_t value) { post({&word, value, true}); }
  void arrive() {
    for (const Operation &o : late) apply(o);
    late.clear();
  }

private:
  struct Operation {
    uint64_t *word, value;
    bool add;
  };
  std::vector<Operation> late;
  void post(const Operation &o) {
    const bool waits = std::any_of(late.begin(), late.end(), [&](const Operation &other) { return other.word == o.word; });
    if (waits || (late.size() < 64 && random() % 8 == 0))
      late.push_back(o);
    else
      apply(o);
  }
  static void apply(const Operation &o) { *o.word = o.add ? *o.word + o.value : o.value; }
};

class Scheduler {
public:
  std::vector<Lane *> ready;
  Traffic traffic;
  bool strict = true; // false: lanes may end early, and shared memory race, since something is missing
  jmp_buf here;
};

// The base of a translated shader: its invocation, and GLSL's functions that concern others.
class Lane {
public:
  Scheduler &scheduler;
  Group &group_memory;
  const uint32_t lane, subgroup_size;
  uint32_t interval = 1; // between barriers
  uint32_t next_shared = 0;
  enum State { READY, WAITING, ENDED } state = READY;
  jmp_buf here;

  struct Id {
    uint32_t x, y = 0, z = 0;
  };
  const Id gl_WorkGroupID, gl_LocalInvocationID;

  Lane(Scheduler &scheduler, Group &memory, uint32_t group, uint32_t lane, uint32_t subgroup_size)
      : scheduler(scheduler), group_memory(memory), lane(lane),
        subgroup_size(subgroup_size), gl_WorkGroupID{group}, gl_LocalInvocationID{lane} {}

  void leave(State to) {
    state = to;
    if (!_setjmp(here)) _longjmp(scheduler.here, 1);
  }

  void barrier(EMULATION_HERE) {
    meet(group_memory.barrier, group_memory.lanes, {file, line}, "barrier()");
    interval++;
  }

  template <class T> T subgroupShuffleXor(T value, uint32_t mask, EMULATION_HERE) {
    static_assert(sizeof(T) <= sizeof shuffled[0]);
    const uint32_t subgroup = lane / subgroup_size;
    // Two in turn: a lane may be at the next shuffle before another has read this one.
    const uint32_t turn = shuffles++ % 2;
    memcpy(shuffled[turn], &value, sizeof value);
    meet(group_memory.subgroups[subgroup], group_memory.subgroup_lanes[subgroup], {file, line}, "subgroupShuffleXor()");
    memcpy(&value, neighbour(lane ^ mask).shuffled[turn], sizeof value);
    return value;
  }

  enum { gl_ScopeDevice };
  uint64_t atomicLoad(uint64_t &word, int, int, int) {
    leave(READY);
    return word;
  }
  void atomicStore(uint64_t &word, uint64_t value, int, int, int) { scheduler.traffic.store(word, value); }
  void atomicAdd(uint64_t &word, uint64_t value, int, int, int) { scheduler.traffic.add(word, value); }

  // Called when this lane has ended: nobody waits for it from now on.
  void end() {
    state = ENDED;
    group_memory.lanes--;
    group_memory.subgroup_lanes[lane / subgroup_size]--;
    if (scheduler.strict && !group_memory.barrier.waiting.empty())
      fault("lane %u ends while others wait at a barrier, %s:%d", lane, group_memory.barrier.place.file,
            group_memory.barrier.place.line);
    release(group_memory.barrier, group_memory.lanes);
    release(group_memory.subgroups[lane / subgroup_size], group_memory.subgroup_lanes[lane / subgroup_size]);
  }

  void *fiber = nullptr; // that runs it

private:
  uint32_t shuffled[2][4];
  uint32_t shuffles = 0;

  Lane &neighbour(uint32_t i) const { return *(*group_memory.members)[i]; }

  void meet(Meeting &m, uint32_t lanes, Place place, const char *what) {
    if (!m.waiting.empty() && !(m.place == place) && scheduler.strict)
      fault("%s of %s:%d and %s:%d meet", what, m.place.file, m.place.line, place.file, place.line);
    m.place = place;
    m.waiting.push_back(this);
    if (release(m, lanes)) return;
    leave(WAITING);
  }

  bool release(Meeting &m, uint32_t lanes) {
    if (m.waiting.size() < lanes || m.waiting.empty()) return false;
    for (Lane *other : m.waiting) {
      if (other == this) continue;
      other->state = READY;
      scheduler.ready.push_back(other);
    }
    m.waiting.clear();
    return true;
  }
};

// ---- Shared memory ----

// A reference to some words of it: to a T of 32 bits, or of a vector of these, whose components are references too.
template <class T> struct Ref {
  Lane *lane;
  Word *word;
  const char *name;
  operator T() const {
    if (lane->scheduler.strict) {
      if (!word->written) fault("%s is read before it is written, by lane %u", name, lane->lane);
      if (word->written == lane->interval && word->writer != lane)
        fault("%s: lane %u reads what lane %u has written since the last barrier", name, lane->lane, word->writer->lane);
    }
    word->reader = word->read == lane->interval && word->reader != lane ? nullptr : lane;
    word->read = lane->interval;
    T value;
    memcpy(&value, &word->value, sizeof value);
    return value;
  }
  const Ref &operator=(T value) const {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (lane->scheduler.strict) {
      if (word->read == lane->interval && word->reader != lane)
        fault("%s: lane %u writes what another has read since the last barrier", name, lane->lane);
      if (word->written == lane->interval && word->writer != lane && word->value != bits)
        fault("%s: lanes %u and %u write it between two barriers", name, lane->lane, word->writer->lane);
    }
    word->writer = lane;
    word->written = lane->interval;
    word->value = bits;
    return *this;
  }
  Ref(Lane *lane, Word *word, const char *name) : lane(lane), word(word), name(name) {}
  Ref(const Ref &) = default;
  const Ref &operator=(const Ref &other) const { return *this = static_cast<T>(other); }
};

template <class V> struct VectorRef {
  enum { COMPONENTS = sizeof(V) / sizeof(typename V::value_type) };
  using Component = Ref<typename V::value_type>;
  Component x, y;
  VectorRef(Lane *lane, Word *word, const char *name) : x(lane, word, name), y(lane, word + 1, name) {}
  VectorRef(const VectorRef &) = default;
  Component operator[](uint32_t i) const {
    if (i >= COMPONENTS) fault("component %u of %s", i, x.name);
    return Component(x.lane, x.word + i, x.name);
  }
  operator V() const {
    V value;
    for (int i = 0; i < COMPONENTS; i++) value[i] = (*this)[i];
    return value;
  }
  const VectorRef &operator=(const V &value) const {
    for (int i = 0; i < COMPONENTS; i++) (*this)[i] = value[i];
    return *this;
  }
  const VectorRef &operator=(const VectorRef &other) const { return *this = static_cast<V>(other); }
};

template <class T> using Reference = typename std::conditional<std::is_arithmetic<T>::value, Ref<T>, VectorRef<T>>::type;

inline Word *shared_words(Lane &lane, size_t count) {
  auto &variables = lane.group_memory.shared;
  const uint32_t index = lane.next_shared++;
  if (index == variables.size()) variables.push_back(std::make_unique<std::vector<Word>>(count));
  return variables[index]->data();
}

template <class T> class SharedArray {
public:
  SharedArray(Lane *lane, const char *name, uint32_t count)
      : lane(lane), name(name), count(count), words(shared_words(*lane, size_t{count} * (sizeof(T) / 4))) {}
  Reference<T> operator[](uint32_t i) const {
    if (i >= count) fault("%s[%u]: it has %u elements", name, i, count);
    return Reference<T>(lane, words + size_t{i} * (sizeof(T) / 4), name);
  }

private:
  Lane *lane;
  const char *name;
  uint32_t count;
  Word *words;
};

template <class T> struct SharedValue : Ref<T> {
  SharedValue(Lane *lane, const char *name) : Ref<T>(lane, shared_words(*lane, 1), name) {}
  using Ref<T>::operator=;
};

} // namespace emulation
