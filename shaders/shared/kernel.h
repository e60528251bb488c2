/* SPDX-License-Identifier: Apache-2.0
 * What the shaders and the host must agree on. Included by GLSL and C alike: only #defines. */
#ifndef WISP_SHARED_KERNEL_H
#define WISP_SHARED_KERNEL_H

/* Bindings of the one descriptor set. The first four are dynamic: a block is a function of two windows. Weights and activations
 * are bound twice because a shader reads them as vectors and as words: some drivers mistreat one binding of two types. */
#define WISP_BIND_WEIGHTS_VEC4 0 /* uvec4: quants */
#define WISP_BIND_WEIGHTS_WORD 1 /* uint: scales, norms */
#define WISP_BIND_KV_VEC4 2      /* uvec4: rows of K */
#define WISP_BIND_KV_WORD 3      /* uint: writes, scales, rows of V */
#define WISP_BIND_DATA_VEC4 4    /* vec4: activations */
#define WISP_BIND_DATA 5         /* float: activations, RoPE table, logits */
#define WISP_BIND_STEP 6         /* uint[WISP_STEP_WORDS] */
#define WISP_BIND_TOKENS 7       /* uint[context + 1]: the timeline's token ids by position */
#define WISP_BINDINGS 8
#define WISP_BIND_RESIDUAL 8 /* int64[2][width]: the residual stream of the fused kernels, 32 bits behind the point */
#define WISP_FUSED_BINDINGS 9
#define WISP_DYNAMIC_MASK 15

/* Step buffer: all that changes from token to token. */
#define WISP_STEP_POSITION 0 /* of the first token of the batch */
#define WISP_STEP_COUNT 1    /* tokens in the batch */
#define WISP_STEP_SERIAL 2   /* tokens that the persistent path has made: tells this token's mail from older */
#define WISP_STEP_FAILED 3   /* 1: workgroups waited in vain for each other */
#define WISP_STEP_DRAWN 4    /* draw: counter of the generator, 2 words, the lower first; then what stays the same */
#define WISP_STEP_SEED 6     /* 2 words */
#define WISP_STEP_SCALE 8    /* wisp_draw_rule (engine/session/sampler.h): float bits */
#define WISP_STEP_TOP_K 9
#define WISP_STEP_TOP_P 10
#define WISP_STEP_FARTHEST 11
#define WISP_STEP_WORDS 64 /* padded to 256 bytes */

/* Layouts of weights on the device. Rows come in tiles of 8 and are padded to whole blocks of 32 weights; neighbouring
 * invocations take neighbouring rows, so that weights are read in one piece and inputs are the same for all of them: quants
 * uvec4[row / 8][block][vector of the block][row % 8] scales        [row / 8][block][row % 8] Value of weight j of a block: */
#define WISP_ROW_TILE 8
#define WISP_LAYOUT_F32 0  /* 8 uvec4 */
#define WISP_LAYOUT_F16 1  /* 4 uvec4, two weights a word, the first in the lower half */
#define WISP_LAYOUT_BF16 2 /* likewise */
#define WISP_LAYOUT_Q4S 3  /* 1 uvec4: nibble j % 8 of word j / 8 is q; (q - 8) * scale; scale f16, two rows a word */
#define WISP_LAYOUT_Q4A 4  /* q * scale + minimum; word = f16 scale, f16 minimum */
#define WISP_LAYOUT_Q8S 5  /* 2 uvec4: signed byte j % 4 of word j / 4 is q; q * scale; scale f16, two rows a word */
#define WISP_LAYOUT_Q8A 6  /* q * scale + minimum; word = f16 scale, f16 minimum */
#define WISP_LAYOUT_Q8H 7  /* q * scale; word = f16 scale of weights 0-15, f16 scale of weights 16-31 */

/* Specialisation constants, the same ids in all kernels. Offsets are in elements of the binding they index, from the start of
 * the window or buffer; those in DATA are multiples of 4. */
#define WISP_C_LOCAL 0  /* invocations of a workgroup: a power of two */
#define WISP_C_SLICES 1 /* invocations that share a row: a power of two, divides LOCAL / 8 */
#define WISP_C_COLS 2   /* input features of the matrices; elements of an embedding row; draw: logits of a column */
#define WISP_C_ROWS 3   /* rows of all matrices together (gate_up: of one) */
#define WISP_C_TILE 4   /* input features staged in shared memory at a time: a multiple of 32 */
#define WISP_C_X 5      /* DATA: input [column][X_STRIDE] */
#define WISP_C_X_STRIDE 6
#define WISP_C_Y 7 /* DATA: output [column][Y_STRIDE] */
#define WISP_C_Y_STRIDE 8
#define WISP_C_NORM 9     /* WEIGHTS_VEC4: norm weights, floats */
#define WISP_C_EPSILON 10 /* float bits */
#define WISP_C_LAYOUT0 11 /* three matrices: layout, first uvec4 of quants, first word of scales */
#define WISP_C_QUANTS0 12
#define WISP_C_SCALES0 13
#define WISP_C_LAYOUT1 14
#define WISP_C_QUANTS1 15
#define WISP_C_SCALES1 16
#define WISP_C_LAYOUT2 17
#define WISP_C_QUANTS2 18
#define WISP_C_SCALES2 19
#define WISP_C_HEADS 20
#define WISP_C_KV_HEADS 21
#define WISP_C_HEAD_SIZE 22  /* a multiple of 8 */
#define WISP_C_ROPE 23       /* DATA: (cos, sin)[position][HEAD_SIZE / 2] */
#define WISP_C_KV_TYPE 24    /* wisp_kv_type */
#define WISP_C_ROW_BEGIN 25  /* embed, head: first row of this window */
#define WISP_C_CANDIDATES 26 /* DATA: (logit, id)[column][CANDIDATE_STRIDE]: best of each head workgroup */
#define WISP_C_CANDIDATE_STRIDE 27
#define WISP_C_CANDIDATE_BEGIN 28 /* head: first candidate of this window */
#define WISP_C_SCALE 29           /* attention: of q . k; embed: of the rows; float bits */
#define WISP_C_SUBGROUPS 30       /* attention_direct: LOCAL / smallest subgroup size */
#define WISP_C_ROPE_STRIDE 31     /* floats from position to position in the RoPE table */
#define WISP_C_BIAS 32            /* qkv: WEIGHTS_WORD: biases of all rows of q, k and v; 0 = none */
#define WISP_C_HEAD_NORM 33 /* qkv: 0 = heads are not normed; 1 = without weights; else WEIGHTS_WORD: weights of q, of k */
#define WISP_C_ADD 34       /* residual: 1: y += M x; 0: y = M x */
#define WISP_C_GELU 35      /* gate_up: 1: GELU, tanh-approximated, for SiLU */
#define WISP_C_WINDOW 36    /* attention: positions that a token sees, itself included; 0 = all */
#define WISP_C_ROUND 37     /* matrix: 1: inputs are transformed and rounded as in wisp_round_int8_fn */
#define WISP_C_TILE_ROWS 38 /* the tile kernels: rows of all matrices together, columns, that a workgroup makes */
#define WISP_C_TILE_COLUMNS 39
#define WISP_C_SUB_ROWS 40 /* coopmat: cooperative matrices of a subgroup, even */
#define WISP_C_SUB_COLUMNS 41
#define WISP_C_COOP_M 42 /* shape of a cooperative matrix */
#define WISP_C_COOP_N 43
#define WISP_C_COOP_K 44
#define WISP_C_FORM 45   /* prepare, matmul_dot: WISP_FORM_* */
#define WISP_C_RAW_K 46  /* qkv: DATA: [column][Y_STRIDE]: k not yet normed; nor is q then, head_norm goes on; 0 = no */
#define WISP_C_STAGED 47 /* qkv in batches, kv_store: DATA: K and V as floats [column][2 * KV_HEADS * HEAD_SIZE], for q8_0 */
#define WISP_C_SPLITS 48 /* residual by tiles: workgroups that share a tile's features; each leaves sums of its own */
#define WISP_C_SPLIT_COLUMNS 49 /* columns from the sums of one to those of the next */
#define WISP_C_PARTS 50         /* team, attention_fused: units of a block of 32 weights: 1, 2 or 4 */
#define WISP_C_AHEAD                                                                                                           \
  51 /* team: rounds whose weights are loaded at a time, 1 to 4; of down: before the inputs are there, 0 to 4 */
#define WISP_C_DOWN_AHEAD 52
#define WISP_C_OUT_FACTOR                                                                                                      \
  53 /* gate_up, attention in batches: float bits: results are f16, divided by it, [column][Y_STRIDE]; 0: floats */
#define WISP_C_IN_FACTOR 54  /* the tile kernels: float bits: inputs are such results, not prepared; 0: prepared */
#define WISP_C_SPLIT_FROM 55 /* attention: lib/splits.glsl; WISP_C_SPLITS as well */
#define WISP_C_PARTIALS 56
#define WISP_C_ARRIVALS 57
#define WISP_C_QUERIES 58 /* attention: of a KV head, that a workgroup takes */
#define WISP_C_COUNT 59

/* What prepare makes of a column's inputs, before (factor, zero point, 2 unused). Codes: [block of 32][plane of bytes][32],
 * then of each block the step, as a float, the sums of the inputs of both halves in steps, and one unused. */
#define WISP_FORM_FLOATS 0
#define WISP_FORM_HALVES 1 /* f16, two a word */
#define WISP_FORM_BYTES 2  /* w8a8: codes of 8 bits, step 1: the factor has it */
#define WISP_FORM_PAIRS 3  /* codes of 16 bits less 2^15, 256 * second byte + first; a step is the block's largest / 32767 */

#define WISP_NO_NORM 0xffffffffu /* prepare: WISP_C_NORM of inputs that are not normed */

/* Push constants: fixed when recorded, the same for every token. */
#define WISP_PUSH_BYTES                                                                                                        \
  16 /* uint first_column (head, sample, draw), kv_stride (persistent), moved (draw), residual (fused)                         \
      */

/* Shared memory for the inputs of decode's matrix kernels, in floats: 14 KiB of tier T0's 16. */
#define WISP_TILE_FLOATS 3584
#define WISP_MAX_LOCAL 256

/* The batch kernels: tokens, or queries of a KV head, that a workgroup takes; rows of all matrices together that an invocation
 * takes. WIDE: where an invocation has more than 64 registers. */
#define WISP_BATCH_COLUMNS 8
#define WISP_BATCH_QUERIES 4
#define WISP_BATCH_WIDE_QUERIES 8
#define WISP_TILE_QUERIES 32 /* attention_tile */
#define WISP_TILE_SPLITS 4   /* most workgroups that share a tile */
#define WISP_MOST_SPLITS 8   /* of a head's positions in decode, at most */
#define WISP_BATCH_ROWS 2
#define WISP_BATCH_WIDE_ROWS 4

#endif
