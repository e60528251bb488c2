/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WISP_CONVERT_SYNTHETIC_FILE_H
#define WISP_CONVERT_SYNTHETIC_FILE_H

#include <wisp/wisp.h>

/* wisp_convert of a synthetic source: the random weights that wisp_model_source.synthetic names, of params->type throughout,
 * with a made-up SentencePiece vocabulary, as a file that any program for GGUF can run. */
wisp_status wisp_synthetic_write(const wisp_convert_params *params, wisp_convert_result *result);

#endif
