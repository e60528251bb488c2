/* SPDX-License-Identifier: Apache-2.0
 * Plain C kernels: what every other kernel, CPU or GPU, is checked against. Dot products keep 16 partial sums, element i in sum
 * i mod 16, then add them in a fixed tree and the tail last: the same bits with every compiler, thread count and batch size. */
#ifndef WISP_CPU_REFERENCE_H
#define WISP_CPU_REFERENCE_H

#include "cpu/kernels.h"

wisp_embed_fn wisp_reference_embed;
wisp_rmsnorm_fn wisp_reference_rmsnorm; /* the mean in double, in order */
wisp_matmul_fn wisp_reference_matmul;   /* each row dequantised once, then float */
wisp_rope_fn wisp_reference_rope;
wisp_kv_write_fn wisp_reference_kv_write;
wisp_attention_fn wisp_reference_attention; /* two passes with the maximum taken off; sums over positions in order */
wisp_activation_fn wisp_reference_silu_mul;
wisp_activation_fn wisp_reference_gelu_mul;
wisp_round_int8_fn wisp_reference_round_int8;

/* The Walsh-Hadamard transform of each 32 numbers of x[n] in place, n a multiple of 32: y[i] = sum over j of
 * (-1)^popcount(i & j) x[j] / sqrt(32). Its own inverse. */
void wisp_reference_hadamard(float *x, uint32_t n);

extern const wisp_cpu_kernels wisp_reference_kernels;

#endif
