/* SPDX-License-Identifier: Apache-2.0
 * What decides how fast decode is and not what it computes: which kernels it takes and how their work is cut. Found by trying
 * (tune.h), kept in the host's cache by device, driver, limits, shaders and model; the same choice gives the same bits. */
#ifndef WISP_GPU_CHOICE_H
#define WISP_GPU_CHOICE_H

#include "base/host.h"
#include "plan/plan.h"
#include "wvk.h"

typedef enum wisp_knob {
  WISP_KNOB_FUSED,            /* wisp_switch: the kernels of fused.h, where they fit */
  WISP_KNOB_PERSISTENT,       /* wisp_switch: off = not even where it is planned by default; on = as by default */
  WISP_KNOB_PERSISTENT_LOCAL, /* persistent.comp: invocations of a workgroup */
  WISP_KNOB_ARITHMETIC,       /* wisp_arithmetic, of matrix.comp; never f16 unasked */
  WISP_KNOB_REDUCTIONS,       /* wisp_reductions, of kernels that are not fused */
  WISP_KNOB_MATRIX_LOCAL,     /* invocations of matrix.comp's workgroups */
  WISP_KNOB_QKV_SLICES,       /* matrix.comp, matvec_direct.comp: at most so many invocations share a row */
  WISP_KNOB_ATTN_OUT_SLICES,  /* in the order of the ops */
  WISP_KNOB_GATE_UP_SLICES,   /* */
  WISP_KNOB_DOWN_SLICES,      /* */
  WISP_KNOB_HEAD_SLICES,      /* matrix.comp only */
  WISP_KNOB_ATTENTION_LOCAL,  /* invocations of attention's workgroups */
  WISP_KNOB_ATTENTION_GROUPS, /* fused: workgroups of a head, each with a share of attn_out's rows */
  WISP_KNOB_QKV_ROWS,         /* fused: rows a workgroup makes */
  WISP_KNOB_QKV_PARTS,        /* fused: units of a block of 32 weights */
  WISP_KNOB_UNITS,            /* fused: hidden units a workgroup of gate_up makes */
  WISP_KNOB_GATE_UP_PARTS,    /* fused: as QKV_PARTS */
  WISP_KNOB_TEAM_LOCAL,       /* matvec_team.comp: at most so many invocations of a workgroup */
  WISP_KNOB_AHEAD_WORDS,      /* matvec_team.comp: words of weights that an invocation asks for ahead */
  WISP_KNOB_HEAD_ROWS,        /* matvec_team.comp: rows a workgroup of the head makes */
  WISP_KNOB_COUNT
} wisp_knob;

typedef enum wisp_switch { WISP_OFF = 1, WISP_ON } wisp_switch;
typedef enum wisp_arithmetic { WISP_ARITHMETIC_F32 = 1, WISP_ARITHMETIC_F16 } wisp_arithmetic;
typedef enum wisp_reductions { WISP_SHARED = 1, WISP_SUBGROUP, WISP_DIRECT } wisp_reductions; /* manifest.txt's variants */

enum { WISP_KNOB_VALUES = 7, WISP_CHOICE_TEXT_BYTES = 320 };

typedef struct wisp_knob_info {
  const char *name;                  /* "attention_local" */
  uint32_t values[WISP_KNOB_VALUES]; /* what may be chosen, in the order of trying; ends with 0 */
  const char *const *names;          /* of value i: names[i - 1]; NULL: numbers */
} wisp_knob_info;

extern const wisp_knob_info wisp_knobs[WISP_KNOB_COUNT];

typedef struct wisp_choice {
  uint32_t knobs[WISP_KNOB_COUNT]; /* 0: as the kernels choose by themselves, and so where a value does not fit */
} wisp_choice;

/* "fused=on attention_local=256"; "" where all is left to the kernels. */
void wisp_choice_text(const wisp_choice *choice, char text[WISP_CHOICE_TEXT_BYTES]);
void wisp_knob_text(wisp_knob knob, uint32_t value, char text[16]);

/* The same, also with commas; false: not understood. */
bool wisp_choice_parse(wisp_choice *choice, const char *text);

typedef enum wisp_choice_origin {
  WISP_CHOICE_NONE,    /* nothing was tried */
  WISP_CHOICE_PASSING, /* some of it was, at a start or until the time was up */
  WISP_CHOICE_TUNED    /* all of it */
} wisp_choice_origin;

typedef struct wisp_choice_kept {
  wisp_choice choice;
  wisp_choice_origin origin;
  double default_us, us; /* a token, without the choice and with it, when it was made; 0 = not known */
} wisp_choice_kept;

/* Where choices for this model on this device, with KV caches of the plan's type, are kept. */
typedef struct wisp_choice_key {
  char name[96];
  uint64_t hash; /* of all that makes them right */
} wisp_choice_key;

wisp_choice_key wisp_choice_key_of(const wvk_device *device, const wisp_plan *plan);

/* NONE where the cache has nothing, or what is damaged, foreign or out of range. */
wisp_choice_kept wisp_choice_load(const wisp_cache *cache, const wisp_choice_key *key);
void wisp_choice_save(const wisp_cache *cache, const wisp_choice_key *key, const wisp_choice_kept *kept);

#endif
