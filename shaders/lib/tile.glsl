// SPDX-License-Identifier: Apache-2.0
// What the tile kernels share. A workgroup makes TILE_ROWS x TILE_COLUMNS results, going through the features TILE at a time:
// weights and inputs of the next step are fetched into registers while the current one is multiplied out of shared memory. Its rows
// are numbered by slots; for GATE_UP the first half of them are rows of gate, the second half the same rows of up.
// Inputs come from prepare.comp: [column][features padded to TILE], then a factor that is applied to the column's results; or where
// IN_FACTOR is not 0 from the op before, [column][features], that factor being for all of them.
// Where there are fewer blocks of 32 weights in a step than invocations, two of these share one: an invocation fetches pieces.
// SPLITS workgroups next to each other may share a tile, each with a run of the features, none of them without any.
// LOCAL divides the pieces and the vectors of the inputs' tile. Grid: (SPLITS * ceil(ROWS / rows), ceil(columns / TILE_COLUMNS)).

layout(constant_id = WISP_C_COLS) const uint COLS = 32;
layout(constant_id = WISP_C_TILE) const uint TILE = 32;
layout(constant_id = WISP_C_TILE_ROWS) const uint TILE_ROWS = 64;
layout(constant_id = WISP_C_TILE_COLUMNS) const uint TILE_COLUMNS = 64;
layout(constant_id = WISP_C_X) const uint X = 0;
layout(constant_id = WISP_C_X_STRIDE) const uint X_STRIDE = 32;
layout(constant_id = WISP_C_SPLITS) const uint SPLITS = 1;
layout(constant_id = WISP_C_SPLIT_COLUMNS) const uint SPLIT_COLUMNS = 0;

layout(constant_id = WISP_C_IN_FACTOR) const float IN_FACTOR = 0.0;

layout(set = 0, binding = WISP_BIND_DATA_VEC4) readonly buffer DataVec4 { vec4 data4[]; };

const uint ROW_BLOCKS = (COLS + 31u) / 32u;
const uint ALL_STEPS = (COLS + TILE - 1u) / TILE;
const uint STEPS = (ALL_STEPS + SPLITS - 1u) / SPLITS;       // of a workgroup
const uint BLOCKS = TILE / 32u;                              // of a row in a step
const uint PIECES = TILE_ROWS * BLOCKS < LOCAL ? 2u : 1u;    // of a block
const uint PARTS = 8u / PIECES;                              // groups of 4 weights in a piece
const uint PIECES_EACH = TILE_ROWS * BLOCKS * PIECES / LOCAL;  // that an invocation fetches
const uint INPUT_VECTORS = TILE / INPUTS_A_VECTOR;           // of a column in a step
const uint INPUTS_EACH = TILE_COLUMNS * INPUT_VECTORS / LOCAL;
const uint FACTOR_AT = X_STRIDE - 4u;                        // its place behind a column's inputs

#ifdef QKV
const uint LAYOUT12 = LAYOUT1 < LAYOUT2 ? LAYOUT1 : LAYOUT2;
const uint MOST_LAYOUT = LAYOUT0 < LAYOUT12 ? LAYOUT0 : LAYOUT12;  // the lower the id, the larger the block; 4 bits aside
#elif defined(GATE_UP)
const uint MOST_LAYOUT = LAYOUT0 < LAYOUT1 ? LAYOUT0 : LAYOUT1;
#else
const uint MOST_LAYOUT = LAYOUT0;
#endif
const uint MOST_BLOCK_VECTORS = MOST_LAYOUT == WISP_LAYOUT_F32 ? 8u
                              : MOST_LAYOUT <= WISP_LAYOUT_BF16 ? 4u
                              : MOST_LAYOUT <= WISP_LAYOUT_Q4A && ONE_LAYOUT ? 1u : 2u;
const uint MOST_VECTORS = MOST_BLOCK_VECTORS > PIECES ? MOST_BLOCK_VECTORS / PIECES : 1u;

struct Piece {  // weights of a row
  uint other_layout, index, scale;  // other_layout: where the matrices' layouts differ
  uvec4 vectors[MOST_VECTORS];
};

Piece fetched[PIECES_EACH];
vec4 inputs[INPUTS_EACH];

#ifdef GATE_UP
const uint TILE_MATRIX_ROWS = TILE_ROWS / 2u;  // of one matrix
#else
const uint TILE_MATRIX_ROWS = TILE_ROWS;
#endif
uint split() { return gl_WorkGroupID.x % SPLITS; }
uint row_of(uint slot) { return gl_WorkGroupID.x / SPLITS * TILE_MATRIX_ROWS + slot % TILE_MATRIX_ROWS; }

uint first_column() { return gl_WorkGroupID.y * TILE_COLUMNS; }
float column_factor(uint column) {
  if (IN_FACTOR != 0.0) return IN_FACTOR;
  const uint factor = X + column * X_STRIDE + FACTOR_AT;
  return data4[factor / 4u].x;
}

uint fetched_slot(uint i) { return (gl_LocalInvocationID.x + i * LOCAL) % TILE_ROWS; }
uint fetched_piece(uint i) { return (gl_LocalInvocationID.x + i * LOCAL) / TILE_ROWS; }  // of the step's of a row
uint input_column(uint i) { return (gl_LocalInvocationID.x + i * LOCAL) / INPUT_VECTORS; }
uint input_vector(uint i) { return (gl_LocalInvocationID.x + i * LOCAL) % INPUT_VECTORS; }

// Rows, columns and blocks behind the last are taken for one that is there: the inputs behind a row's end are zero.
void fetch(uint step_index, uint end) {
  [[unroll]] for (uint i = 0u; i < PIECES_EACH; i++) {
    const uint slot = fetched_slot(i), in_tile = slot % 8u, piece = fetched_piece(i) % PIECES;
    uint row = min(row_of(slot) / 8u, (ROWS - 1u) / 8u) * 8u;
    Matrix m = matrix_of_row(row);
#ifdef GATE_UP
    if (slot >= TILE_MATRIX_ROWS) m = Matrix(LAYOUT1, QUANTS1, SCALES1);
#endif
    const uint tile = row / 8u * ROW_BLOCKS + min(step_index * BLOCKS + fetched_piece(i) / PIECES, ROW_BLOCKS - 1u);
    if (ONE_LAYOUT) m.layout_id = LAYOUT0;
    const uint all_vectors = block_vectors(m.layout_id), vectors = max(all_vectors / PIECES, 1u);
    const uint first = m.quants + (tile * all_vectors + piece * (all_vectors / PIECES)) * 8u + in_tile;
    [[unroll]] for (uint v = 0u; v < MOST_VECTORS; v++)
      if (v < vectors) fetched[i].vectors[v] = weights4[first + 8u * v];
    if (PIECES > all_vectors && piece > 0u) fetched[i].vectors[0] = fetched[i].vectors[0].zwxy;  // its half to the front
    fetched[i].other_layout = m.layout_id;
    fetched[i].index = tile * 8u + in_tile;
    fetched[i].scale = scale_word(m, tile * 8u + in_tile);
  }
  [[unroll]] for (uint i = 0u; i < INPUTS_EACH; i++) {
    const uint column = min(first_column() + input_column(i), end - 1u), vector = step_index * INPUT_VECTORS + input_vector(i);
    const bool is_there = IN_FACTOR == 0.0 || COLS % TILE == 0u || vector < COLS / INPUTS_A_VECTOR;
    inputs[i] = is_there ? data4[(X + column * X_STRIDE) / 4u + vector] : vec4(0.0);
  }
}

// A constant wherever it can be: indices that are not would put what is fetched into memory.
uint fetched_layout(uint i) { return ONE_LAYOUT ? LAYOUT0 : fetched[i].other_layout; }

// Weights 4 part .. 4 part + 3 of a fetched piece.
vec4 fetched_part(uint i, uint part) {
  const uint layout_id = fetched_layout(i), parts = vector_parts(layout_id);
  const vec2 scale = word_scale(layout_id, fetched[i].scale, fetched[i].index,
                                PIECES == 1u ? part >= 4u : fetched_piece(i) % PIECES > 0u);
  return vector_part(layout_id, fetched[i].vectors[part / parts % MOST_VECTORS], part % parts) * scale.x + scale.y;
}
