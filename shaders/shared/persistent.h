/* SPDX-License-Identifier: Apache-2.0
 * What persistent.comp and the host must agree on, beyond kernel.h: its own bindings and specialisation constants. */
#ifndef WISP_SHARED_PERSISTENT_H
#define WISP_SHARED_PERSISTENT_H

/* As in kernel.h, but weights and KV cache are bound whole; none is dynamic. */
#define WISP_BIND_MAIL 8 /* uint64[]: values that workgroups send each other */
#define WISP_PERSISTENT_BINDINGS 9

#define WISP_P_LOCAL 0
#define WISP_P_SUBGROUP 1 /* invocations of a subgroup: a power of two */
#define WISP_P_GROUPS 2   /* workgroups, all of them resident */
#define WISP_P_BLOCKS 3   /* executed */
#define WISP_P_REPEAT 4   /* executions of each block, one after the other */
#define WISP_P_WIDTH 5
#define WISP_P_FFN_WIDTH 6
#define WISP_P_HEADS 7
#define WISP_P_KV_HEADS 8
#define WISP_P_HEAD_SIZE 9
#define WISP_P_VOCABULARY 10
#define WISP_P_EPSILON 11
#define WISP_P_ATTENTION_SCALE 12
#define WISP_P_EMBEDDING_SCALE 13
#define WISP_P_GELU 14
#define WISP_P_KV_F32 15
#define WISP_P_ROPE 16 /* DATA */
#define WISP_P_ROPE_STRIDE 17
#define WISP_P_LOGITS 18    /* DATA */
#define WISP_P_FIRST 19     /* uvec4 of the first block's window */
#define WISP_P_STRIDE 20    /* uvec4 from window to window */
#define WISP_P_EMBEDDING 21 /* uvec4 of the embedding's window */
#define WISP_P_HEAD 22      /* uvec4 of the head's window */
#define WISP_P_ATTN_NORM 23 /* uvec4 inside the window, as the next ones */
#define WISP_P_FFN_NORM 24
#define WISP_P_FINAL_NORM 25
#define WISP_P_BIAS 26     /* of q, k and v behind each other; 0 = none */
#define WISP_P_MATRICES 27 /* layout, quants (uvec4), scales (word) of q, k, v, attn_out, gate, up, down, embedding, head */
#define WISP_P_SLICES 54   /* invocations that share a row, for qkv, gate_up, head */
#define WISP_P_PARTS 57    /* units of a block of 32 weights, for these, attn_out and down: 1, 2 or 4 */
#define WISP_P_HIDDEN 62   /* hidden units of a workgroup: a multiple of 4 */
#define WISP_P_STREAM 63   /* units that an invocation asks for ahead */
#define WISP_P_ACROSS 64   /* of these, units of a later phase */
#define WISP_P_AHEAD 65    /* positions of the KV slot that an invocation reads at once */
#define WISP_P_SPLIT 66    /* positions that one workgroup of attention takes at least */
#define WISP_P_SPLITS 67   /* at most */
#define WISP_P_SPINS 68    /* looks at a mail before it counts as lost */
#define WISP_P_COUNT 69

/* At most: elements of a vector that an invocation takes, units that it asks for ahead. */
#define WISP_P_SHARE 8
#define WISP_P_MOST_STREAM 24

#endif
