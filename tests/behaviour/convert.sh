#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# wisp convert, calibrate and compare on good and bad input: what is written appears whole or not at all.
#   tests/behaviour/convert.sh BUILD_DIR MODEL.gguf
# Ends with "N passed, N failed, N skipped"; the exit code is 1 if something failed. Needs python3.
set -u
if [ $# -ne 2 ] || [ ! -x "$1/wisp" ] || [ ! -f "$2" ]; then
  echo "usage: $0 BUILD_DIR MODEL.gguf" >&2
  exit 2
fi
wisp=$(realpath "$1")/wisp model=$(realpath "$2")
work=$(mktemp -d)
mounted=
trap '[ "$mounted" ] && umount "$mounted"; rm -rf "$work"' EXIT
# shellcheck source=tests/behaviour/checks.bash
. "$(dirname "$0")/checks.bash"

# A llama of two blocks with random f32 weights: width 64 (or the second argument), no tokenizer.
tiny() {
  python3 - "$1" "${2:-64}" <<'E'
import random, struct, sys
path, width = sys.argv[1], int(sys.argv[2])
random.seed(7)
text = lambda s: struct.pack("<Q", len(s)) + s.encode()
numbers = {"embedding_length": width, "block_count": 2, "feed_forward_length": 256, "context_length": 64, "attention.head_count": 4,
           "attention.head_count_kv": 2}
keys = [text("general.architecture") + struct.pack("<I", 8) + text("llama"),
        text("llama.attention.layer_norm_rms_epsilon") + struct.pack("<If", 6, 1e-5)]
keys += [text("llama." + k) + struct.pack("<II", 4, v) for k, v in numbers.items()]
shapes = {"token_embd.weight": (width, 100), "output_norm.weight": (width,)}
for b in range(2):
    shapes |= {f"blk.{b}.{k}.weight": v for k, v in {
        "attn_norm": (width,), "ffn_norm": (width,), "attn_q": (width, width), "attn_k": (width, width // 2),
        "attn_v": (width, width // 2), "attn_output": (width, width), "ffn_gate": (width, 256), "ffn_up": (width, 256),
        "ffn_down": (256, width)}.items()}
table, data = b"", b""
for name, shape in shapes.items():
    count = shape[0] * (shape[1] if len(shape) > 1 else 1)
    table += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<IQ", 0, len(data))
    data += struct.pack(f"<{count}f", *(random.gauss(0, 0.1) for _ in range(count)))
    data += bytes(-len(data) % 32)
head = b"GGUF" + struct.pack("<IQQ", 3, len(shapes), len(keys)) + b"".join(keys) + table
open(path, "wb").write(head + bytes(-len(head) % 32) + data)
E
}
tiny "$work/tiny.gguf"
tiny "$work/wide.gguf" 256

# ---- Good input ----------------------------------------------------------------------------------------------------------
for type in f32 f16 bf16 q4_0 q4_1 q5_0 q5_1 q8_0 q4_k q5_k q6_k w8a8; do
  good "convert to $type" "$wisp" convert "$work/tiny.gguf" -o "$work/$type.gguf" --type $type --json
  json "$type: what was done" 'd["tensors"] == 20 and d["fallbacks"] == (13 if d["type"] in ("q4_k", "q5_k", "q6_k") else 0)'
  good "$type is read" "$wisp" info "$work/$type.gguf" --json
  good "$type runs" "$wisp" logits -m "$work/$type.gguf" --ids 1,2,3 --device cpu
done
run "$wisp" info "$work/w8a8.gguf" --json
json "w8a8 is called so" 'd["type"] == "w8a8"'
good "wide rows" "$wisp" convert "$work/wide.gguf" -o "$work/wide_k.gguf" --type q4_k --json
json "wide rows need no other type" 'd["fallbacks"] == 0 and d["bits_per_weight"] < 5.5'
run "$wisp" convert "$work/tiny.gguf" -o "$work/x.gguf" --type q4_k -v
if [ "$(grep -c 'stored as' "$err")" -eq 13 ]; then pass; else fail "fallbacks" "not each one is named with -v"; fi
good "a line for people" "$wisp" convert "$work/tiny.gguf" -o "$work/x.gguf" --type q8_0
if grep -q 'x.gguf: q8_0, 20 tensors, .* bits a weight' "$out"; then pass; else fail "the line" "$(cat "$out")"; fi
if [ "$(wc -l <"$err")" -eq 1 ] && grep -q 'tiny.gguf: has no tokenizer' "$err"; then pass; else fail "no tokenizer" "not one line about it"; fi
good "the file is replaced" "$wisp" convert "$work/tiny.gguf" -o "$work/x.gguf" --type f16
if cmp -s "$work/x.gguf" "$work/f16.gguf"; then pass; else fail "replaced" "another file than the first time"; fi
good "plain rounding" "$wisp" convert "$work/tiny.gguf" -o "$work/plain.gguf" --type q4_0 --plain
if ! cmp -s "$work/plain.gguf" "$work/q4_0.gguf"; then pass; else fail "--plain" "the same as with the search"; fi
good "embedding of another type" "$wisp" convert "$work/tiny.gguf" -o "$work/x.gguf" --type q4_0 --embedding f16

head -c 3000 "$0" >"$work/text"
good "a synthetic model" "$wisp" convert --synthetic tiny -o "$work/synthetic.gguf" --type q8_0
good "its file runs" "$wisp" run -m "$work/synthetic.gguf" --device cpu --raw -p "b c" -n 3 --json
json "its file runs: three tokens, start-up told" 'len(d["ids"]) == 3 and any(s["name"] == "model file" for s in d["start_up"])'

good "calibrate" "$wisp" calibrate -m "$model" -f "$work/text" -o "$work/importance.gguf" --window 32 --chunks 1
good "convert with importance" "$wisp" convert "$model" -o "$work/model.gguf" --type w8a8 --importance "$work/importance.gguf" --json
json "memory well under the model's size" 'd["peak_rss_bytes"] < d["source_bytes"] / 2'
good "compare" "$wisp" compare "$model" "$work/model.gguf" -f "$work/text" --window 32 --chunks 1 --device cpu --json
json "they are close" '0 < d["kl_mean"] < 0.2 and d["same_top"] > 0.6 and 0.7 < d["perplexity_ratio"] < 1.4 and d["scored_tokens"] == 16'
good "compare with itself" "$wisp" compare "$model" --device-a cpu --device-b cpu -f "$work/text" --window 16 --chunks 1 --json
json "no distance" 'd["kl_mean"] == 0 and d["same_top"] == 1 and d["perplexity_ratio"] == 1'

# ---- Bad input: one line, and what was there stays -----------------------------------------------------------------------
echo "an old file" >"$work/old.gguf"
to_old() { "$wisp" convert "$@" -o "$work/old.gguf"; }
bad "no input" 2 "no model" "$wisp" convert -o "$work/old.gguf" --type q8_0
bad "no output" 2 "-o FILE" "$wisp" convert "$work/tiny.gguf" --type q8_0
bad "a model and a synthetic one" 2 "exclude" "$wisp" convert "$work/tiny.gguf" --synthetic tiny -o "$work/old.gguf" --type q8_0
bad "no such shape" 2 "mammoth" "$wisp" convert --synthetic mammoth -o "$work/old.gguf" --type q8_0
bad "no type" 2 "--type" to_old "$work/tiny.gguf"
bad "unknown type" 2 "q3_x" to_old "$work/tiny.gguf" --type q3_x
bad "two inputs" 2 "unexpected" to_old "$work/tiny.gguf" "$work/wide.gguf" --type q8_0
bad "absent input" 1 "absent.gguf.*No such file" to_old "$work/absent.gguf" --type q8_0
bad "not a model" 1 "not a GGUF file" to_old "$0" --type q8_0
head -c 100000 "$work/tiny.gguf" >"$work/cut.gguf"
bad "truncated input" 1 "cut.gguf.*truncated" to_old "$work/cut.gguf" --type q8_0
same=$work/../$(basename "$work")/tiny.gguf
bad "input is output" 2 "both the input and the output" "$wisp" convert "$work/tiny.gguf" -o "$same" --type q8_0
bad "importance is output" 2 "both the importance file and the output" "$wisp" convert "$model" --importance "$same" -o "$same" --type q8_0
bad "output is a folder" 1 "is a folder" "$wisp" convert "$work/tiny.gguf" -o "$work" --type q8_0
bad "output is a device" 1 "no regular file" "$wisp" convert "$work/tiny.gguf" -o /dev/null --type q8_0
bad "output in no folder" 1 "cannot write .*nowhere" "$wisp" convert "$work/tiny.gguf" -o "$work/nowhere/x.gguf" --type q8_0
bad "importance of nothing" 1 "no importance" to_old "$work/tiny.gguf" --type q4_0 --importance "$work/tiny.gguf"
bad "importance of another model" 1 "of another model" to_old "$work/tiny.gguf" --type q4_0 --importance "$work/importance.gguf"
bad "importance that is not there" 1 "absent" to_old "$work/tiny.gguf" --type q4_0 --importance "$work/absent"
bad "calibrate without text" 2 "-f FILE" "$wisp" calibrate -m "$model" -o "$work/old.gguf"
bad "calibrate without tokenizer" 1 "tokenizer" "$wisp" calibrate -m "$work/tiny.gguf" -f "$work/text" -o "$work/old.gguf"
bad "compare without second model" 2 "two models" "$wisp" compare "$model" -f "$work/text"
bad "compare other vocabularies" 1 "vocabularies differ" "$wisp" compare "$model" "$work/tiny.gguf" -f "$work/text" --device cpu
if [ "$(id -u)" -ne 0 ]; then
  mkdir "$work/locked" && chmod 500 "$work/locked"
  bad "folder without permission" 1 "cannot write.*ermission" "$wisp" convert "$work/tiny.gguf" -o "$work/locked/x.gguf" --type q8_0
  skip "full disk" "mounting a small one needs root"
else
  skip "folder without permission" "root may write everywhere"
  mkdir "$work/small"
  if mount -t tmpfs -o size=256k none "$work/small" 2>"$err"; then
    mounted=$work/small
    echo "an old file" >"$work/small/x.gguf"
    bad "full disk" 1 "cannot write .*No space left.*old file is unchanged" \
      "$wisp" convert "$work/tiny.gguf" -o "$work/small/x.gguf" --type f32
    if [ "$(cat "$work/small/x.gguf")" = "an old file" ]; then pass; else fail "full disk" "the old file is gone"; fi
  else
    skip "full disk" "cannot mount a small one"
  fi
fi

# Interrupted while it writes.
"$wisp" convert "$model" -o "$work/old.gguf" --type q4_0 >"$out" 2>"$err" &
job=$!
for ((i = 0; i < 1000; i++)); do
  [ "$(stat -c %s "$work/old.gguf.0.tmp" 2>/dev/null || echo 0)" -gt 3000000 ] && break
  sleep 0.02
done
kill -INT $job
wait $job
code=$?
if [ $code -eq 1 ] && [ "$(wc -l <"$err")" -eq 1 ] && grep -q interrupted "$err"; then pass; else fail "interrupt" "exit code $code"; fi
if [ "$(cat "$work/old.gguf")" = "an old file" ]; then pass; else fail "after all this" "the old file is gone"; fi
if find "$work" -name '*.tmp' | grep -q .; then fail "after all this" "a temporary file is left"; else pass; fi

checked
