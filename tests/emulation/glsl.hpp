// SPDX-License-Identifier: Apache-2.0
// What a translated shader sees: GLSL's types and functions from GLM, the rest from lanes.hpp.
#pragma once

#define GLM_FORCE_SWIZZLE
#include <glm/glm.hpp>
#include <glm/gtc/packing.hpp>

#include "lanes.hpp"

namespace emulation {
using namespace glm;
using uint = unsigned int;

// GLM's templates do not look through references to shared memory.
inline float max(float a, const Ref<float> &b) {
  return glm::max(a, static_cast<float>(b));
}
using glm::max;
} // namespace emulation
