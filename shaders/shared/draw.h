/* SPDX-License-Identifier: Apache-2.0
 * Arithmetic of the sampler, the same on both sides (engine/session/sampler.h). Included by GLSL and C alike: only #defines. */
#ifndef WISP_SHARED_DRAW_H
#define WISP_SHARED_DRAW_H

#define WISP_DRAW_BINS 256             /* of draw.comp: at least so many invocations */
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

/* log2(1 + y) = y (c1 - y (c2 - y (c3 - ... c7))) for 0 <= y < 1: the quotient log2(1 + y) / y, likewise. */
#define WISP_DRAW_LOG2_1 0xb8aa29e7u
#define WISP_DRAW_LOG2_2 0x5c4e731au
#define WISP_DRAW_LOG2_3 0x3d1e99d1u
#define WISP_DRAW_LOG2_4 0x2b4ff1abu
#define WISP_DRAW_LOG2_5 0x1b627dbeu
#define WISP_DRAW_LOG2_6 0x0c1cbb37u
#define WISP_DRAW_LOG2_7 0x028fe7d5u

/* log2(-log2(u) / (1 - u)), u = (1 + t) / 2, = c0 - t (c1 - t (c2 - ... c5)) for 0 <= t < 1, likewise. */
#define WISP_DRAW_SLOPE_0 0x7fffd7ccu
#define WISP_DRAW_SLOPE_1 0x51b4a31eu
#define WISP_DRAW_SLOPE_2 0x20cfce3fu
#define WISP_DRAW_SLOPE_3 0x1146b247u
#define WISP_DRAW_SLOPE_4 0x078adab4u
#define WISP_DRAW_SLOPE_5 0x01b0a43bu

#endif
