// SPDX-License-Identifier: Apache-2.0
// Which rows an invocation of the batch kernels takes: ROWS_EACH of all matrices together, pairs of neighbours (2 id, 2 id + 1), for
// COLUMNS tokens, and what becomes of its sums.

layout(constant_id = WISP_C_COLS) const uint COLS = 32;

const uint ROW_BLOCKS = (COLS + 31u) / 32u;

#define COLUMNS WISP_BATCH_COLUMNS
#ifdef GATE_UP
#define MATRICES 2
#else
#define MATRICES 1
#endif
#define TILES (ROWS_EACH / MATRICES)  // rows of one matrix
#define NEIGHBOURS min(2u, TILES)     // of them next to each other

float sums[ROWS_EACH][COLUMNS];
Matrix matrices[ROWS_EACH];
uint blocks[ROWS_EACH];  // first block of the slot's tile of 8 rows

// Row of slot 0 .. ROWS_EACH - 1; the slots of a row, one for each matrix, follow each other.
uint row_of(uint slot) {
  const uint tile = slot / MATRICES, neighbour = tile % NEIGHBOURS;
  return (gl_WorkGroupID.x * TILES + tile - neighbour) * LOCAL + NEIGHBOURS * gl_LocalInvocationID.x + neighbour;
}

void take_rows() {
  [[unroll]] for (uint t = 0u; t < ROWS_EACH; t++) {
    uint row = min(row_of(t) / 8u, (ROWS - 1u) / 8u) * 8u;  // first of the tile; matrices begin with a tile
    matrices[t] = matrix_of_row(row);
    blocks[t] = row / 8u * ROW_BLOCKS;
#ifdef GATE_UP
    if (t % MATRICES == 1u) matrices[t] = Matrix(LAYOUT1, QUANTS1, SCALES1);
#endif
    [[unroll]] for (uint c = 0u; c < COLUMNS; c++) sums[t][c] = 0.0;
  }
}

void finish_rows(uint column, uint end) {
  // Nested ifs, not continue: some compilers unroll only loops without it.
  [[unroll]] for (uint t = 0u; t < ROWS_EACH; t++) {
    const uint row = row_of(t);
    [[unroll]] for (uint c = 0u; c < COLUMNS; c++) {
      if (row < ROWS && column + c < end) {
#if defined(QKV)
        if (t % 2u == 0u) finish_pair(row, column + c, vec2(sums[t][c] + bias(row), sums[t + 1u][c] + bias(row + 1u)));
#elif defined(GATE_UP)
        if (t % 2u == 0u) finish(row, column + c, sums[t][c], sums[t + 1u][c]);
#else
        finish(row, column + c, sums[t][c]);
#endif
      }
    }
  }
}
