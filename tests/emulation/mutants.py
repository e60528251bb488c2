# SPDX-License-Identifier: Apache-2.0
"""Faults that the emulation must see: the text of the preprocessed shader, which occurs once, what stands there instead, and the
case (persistent.cpp) that is run with it. White space does not count. Statements only: all of them are in the program, and one is
taken at a time."""

MUTANTS = [
    ("the other set's sums are not set to 0 at first",
     "attended[i] = attended_before[i] = fed[i] = 0.0;",
     "attended[i] = fed[i] = 0.0;", "plain"),
    ("no barrier before q, k and v are finished",
     "run_qkv(window, next, more); barrier();",
     "run_qkv(window, next, more);", "plain"),
    ("no barrier between the hidden units and down",
     "finish_gate_up(); barrier();",
     "finish_gate_up();", "plain"),
    ("a barrier that some pass by",
     "finish_gate_up(); barrier();",
     "finish_gate_up(); if (id != 0u) barrier();", "plain"),
    ("the factor of the norm is made by nobody",
     "if (id + 1u != LOCAL) return;",
     "if (id != LOCAL) return;", "plain"),
    ("mail of the last token passes for this one's",
     "tag = serial * (BLOCKS + 1u) + block + 1u;",
     "tag = block + 1u;", "slow"),
    ("one mailbox",
     "mailbox = block % 2u * MAILBOX;",
     "mailbox = 0u;", "slow, without rows of attn_out"),
    ("a sum is taken before the last has been added",
     "receive_sums(DOWN_SUMS, FEEDERS * block, fed);",
     "receive_sums(DOWN_SUMS, FEEDERS * block - 1u, fed);", "slow"),
    ("sums are cleared before all have read them",
     "if (group == 0u) next_token(position);",
     "for (uint i = ATTN_OUT_SUMS + id; group == 0u && i < MAIL_END; i += LOCAL) atomicStore(mail[i], uint64_t(0), gl_ScopeDevice, 0, 0);"
     "if (group == 0u) next_token(position);", "slow"),
    ("a mail counts as come since the one sent before it has",
     "waiting = !look(softmax + 1u, tag, totals[i]) || waiting;",
     "look(softmax + 1u, tag, totals[i]);", "slow"),
    ("a row past the vocabulary",
     "data[LOGITS + row] = logit;",
     "data[LOGITS + row + (row + 1u == VOCABULARY ? 1u << 20 : 0u)] = logit;", "plain"),
    ("K of this token from the KV cache",
     "if (current) k = staged_row(HEAD_SIZE + 8u * part);",
     "", "plain"),
]
