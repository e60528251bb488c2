/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu/executor.h"

wisp_status wisp_gpu_selftest(gpu_executor *executor) {
  return executor ? WISP_OK : WISP_ERROR_DEVICE;
}
