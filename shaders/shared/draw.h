/* SPDX-License-Identifier: Apache-2.0
 * Arithmetic of the sampler, the same on both sides (engine/session/sampler.h). Included by GLSL and C alike: only #defines. */
#ifndef WISP_SHARED_DRAW_H
#define WISP_SHARED_DRAW_H

#define WISP_DRAW_OCTAVE 0x1000000u    /* steps that halve a weight */
#define WISP_DRAW_FARTHEST 0x1e000000u /* steps: 30 octaves, where a weight is 1 */
#define WISP_DRAW_ONE 0x40000000u      /* weight of the best */

/* 2^y = 1 + y (c1 + y (c2 + y (c3 + y (c4 + y c5)))) for 0 <= y < 1: the quotient (2^y - 1) / y interpolated at Chebyshev's
 * nodes, of 2^31. */
#define WISP_DRAW_EXP2_1 0x58b90f3bu
#define WISP_DRAW_EXP2_2 0x1ebf1bfeu
#define WISP_DRAW_EXP2_3 0x071fc536u
#define WISP_DRAW_EXP2_4 0x012d720eu
#define WISP_DRAW_EXP2_5 0x003a99edu

#endif
