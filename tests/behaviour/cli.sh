#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs the built commands on good and bad input and checks exit codes, stdout and stderr.
#   tests/behaviour/cli.sh BUILD_DIR MODEL.gguf
# Ends with "N passed, N failed, N skipped"; the exit code is 1 if something failed. Needs python3 to read JSON.
set -u
if [ $# -ne 2 ] || [ ! -x "$1/wisp" ] || [ ! -f "$2" ]; then
  echo "usage: $0 BUILD_DIR MODEL.gguf" >&2
  exit 2
fi
wisp=$(realpath "$1")/wisp bench=$(realpath "$1")/wisp-bench model=$(realpath "$2")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# shellcheck source=tests/behaviour/checks.bash
. "$(dirname "$0")/checks.bash"

no_vulkan=(env VK_DRIVER_FILES=/nonexistent VK_ICD_FILENAMES=/nonexistent)
cpu=(--device cpu)
ask=("$wisp" run -m "$model" "${cpu[@]}")

# ---- Usage ---------------------------------------------------------------------------------------------------------
good "wisp --help" "$wisp" --help
text "wisp --help names every command" 'run.*chat.*info.*devices.*tokenize.*logits.*perplexity'
good "wisp --version" "$wisp" --version
text "the version is one" '^wisp [0-9]+\.[0-9]+\.[0-9]+'
for command in run chat info devices tokenize logits perplexity tune; do
  good "$command --help" "$wisp" $command --help
  text "$command --help says how" "^usage: wisp $command"
  if [ -s "$err" ]; then fail "$command --help" "text on stderr"; else pass; fi
  bad "$command with an unknown option" 2 "unknown option '--no-such'" "$wisp" $command --no-such
done
good "wisp-bench --help" "$bench" --help
text "wisp-bench --help says how" '^usage: wisp-bench'
bad "no command" 2 "no command" "$wisp"
bad "unknown command" 2 "unknown command 'sing'" "$wisp" sing
bad "bench, unknown option" 2 "unknown option '--no-such'" "$bench" --no-such
bad "bench without model" 2 "no model" "$bench"
bad "run without model" 2 "no model" "$wisp" run -p hi
bad "run without prompt" 2 "-p TEXT or -f FILE" "$wisp" run -m "$model"
bad "missing value" 2 "-p needs a value" "$wisp" run -m "$model" -p
bad "value for a flag" 2 "--raw takes no value" "$wisp" run -m "$model" --raw=1 -p hi
bad "unexpected argument" 2 "unexpected argument 'hi'" "$wisp" run -m "$model" hi
for mistake in "-n 0" "-n -1" "-n x" "-n 1.5" "-n 99999999999" "--temp hot" "--temp -1" "--temp nan" "--top-p 0" "--top-p 1.1" \
  "--min-p 2" "--top-k -1" "--repeat-penalty 0" "--seed -3" "--seed x" "--ctx 0" "--ctx big" "--threads 0" "--threads 257" \
  "--kv q8" "--device gpu" "--device vulkan:" "--device vulkan:x"; do
  # shellcheck disable=SC2086
  bad "run $mistake" 2 "${mistake%% *} takes .*'${mistake##* }'" "$wisp" run -m "$model" -p hi $mistake
done
for mistake in "-p x" "-n -1" "-d 1,,2" "-r 0" "--device cpu,gpu" "--ctx 0"; do
  # shellcheck disable=SC2086
  bad "bench $mistake" 2 "${mistake%% *} takes " "$bench" -m "$model" $mistake
done
: >"$work/same"
for mistake in "--json $work/same --csv $work/same" "--json $work/new --trace $work/new" "--json - --csv -" "--csv $work/./same --trace $work/same"; do
  # shellcheck disable=SC2086
  bad "bench $mistake" 2 "same file|to the file of" "$bench" --synthetic tiny $mistake
done
cp "$work/same" "$work/kept.gguf"
for option in --json --csv --trace; do
  bad "bench $option MODEL" 2 "would be overwritten" "$bench" -m "$work/kept.gguf" "$option" "$work/./kept.gguf"
done
bad "run --save-state MODEL" 2 "would be overwritten" "$wisp" run -m "$work/kept.gguf" -p hi --save-state "$work/kept.gguf"
bad "tune --json MODEL" 2 "would be overwritten" "$wisp" tune -m "$work/kept.gguf" --json "$work/kept.gguf"
bad "bench --trace -" 2 "takes a file" "$bench" --synthetic tiny --trace -
for mistake in --profile "--trace $work/trace" "--sessions 2"; do
  # shellcheck disable=SC2086
  bad "bench --start-up $mistake" 2 "measures only that" "$bench" --synthetic tiny --start-up $mistake
done
bad "bench, trace to nowhere" 1 "cannot write /nowhere/trace" "$bench" --synthetic tiny --trace /nowhere/trace
bad "bench that fails" 1 "no Vulkan" "$bench" --synthetic tiny --device vulkan:99 --json "$work/fails.json"
if [ -e "$work/fails.json" ]; then fail "bench that fails" "left an empty file"; else pass; fi
bad "bench with nothing to measure" 2 "nothing to measure" "$bench" -m "$model" -p 0 -n 0
bad "bench, --ctx too small" 2 "--ctx 8 is too small" "$bench" -m "$model" -p 16 -n 0 --ctx 8
bad "bench, unknown shape" 2 "mobilellm-125m.*'no-such'" "$bench" --synthetic no-such
for processors in 0, 2-1 0x cpu0 5000; do
  bad "bench --affinity $processors" 2 "'$processors' (is neither a list|names no processor)" "$bench" -m "$model" --affinity $processors
done
bad "unknown kernel set" 2 'WISP_CPU: "mmx" is not there; this machine has .*c$' \
  env WISP_CPU=mmx "$wisp" run -m "$model" --device cpu -p Hi -n 1
bad "info, unknown shape" 2 "mobilellm-125m.*'no-such'" "$wisp" info --synthetic no-such
bad "info, unknown type" "1 2" "q9_9" "$wisp" info --synthetic mobilellm-125m --type q9_9
bad "info, unknown plan" 2 "--plan takes" "$wisp" info "$model" --plan encode
bad "info, two models" 2 "two models" "$wisp" info -m "$model" "$model"
bad "logits, bad id" 2 "--ids takes" "$wisp" logits -m "$model" --ids 1,-2
bad "logits without input" 2 "--ids" "$wisp" logits -m "$model"
bad "tokenize without text" 2 "TEXT" "$wisp" tokenize -m "$model"
bad "perplexity without text" 2 "-f FILE" "$wisp" perplexity -m "$model"

bad "tune without model" 2 "no model" "$wisp" tune
bad "tune --budget 0" 2 "--budget takes .*'0'" "$wisp" tune --synthetic tiny --budget 0
bad "tune on the CPU" 1 "--device vulkan" "$wisp" tune --synthetic tiny --device cpu
for mistake in WISP_FUSED=2 WISP_PERSISTENT=on WISP_PERSISTENT=132x WISP_BATCH=0 WISP_BATCH=many; do
  bad "$mistake" 2 "$mistake is not understood: " env "$mistake" "$wisp" info --synthetic tiny --compile --device vulkan
done
bad "unknown choice" 2 "WISP_TUNE=units=9 is not understood" env WISP_TUNE=units=9 "$wisp" tune --synthetic tiny
bad "tune, JSON to nowhere" 1 "cannot write /nowhere/file" env XDG_CACHE_HOME="$work" "$wisp" tune --synthetic tiny --json /nowhere/file

# ---- Tuning --------------------------------------------------------------------------------------------------------
tune=(env XDG_CACHE_HOME="$work" "$wisp" tune --synthetic tiny)
good "tune --forget" "${tune[@]}" --forget
good "tune" "${tune[@]}" --json -
json "tune tells what it tried" 'not d["kept"] and d["trials"][0]["knob"] == "" and len(d["trials"]) > 1 and d["us_per_token"] > 0'
good "tune again" "${tune[@]}"
text "tune again: nothing is tried" '^chosen .*found earlier'
good "tune again, JSON" "${tune[@]}" --json -
json "tune again: what was kept" 'd["kept"] and d["complete"] and not d["trials"] and d["us_per_token"] > 0'
good "tune --f16" "${tune[@]}" --f16 --json -
json "tune --f16: what was kept says nothing of f16" 'not d["kept"] and d["trials"]'
good "tune --forget again" "${tune[@]}" --forget

# ---- Bad files -----------------------------------------------------------------------------------------------------
size=$(stat -c %s "$model")
printf 'not a model at all, just some text\n' >"$work/text.gguf"
: >"$work/empty.gguf"
for cut in 3 20 4096 65536 $((size / 2)) $((size - 4096)); do head -c "$cut" "$model" >"$work/cut-$cut.gguf"; done
for command in "run -p hi" "info" "tokenize hi" "logits --ids 1" "perplexity -f $0" "chat"; do
  # shellcheck disable=SC2086
  for file in missing.gguf empty.gguf text.gguf cut-3.gguf cut-20.gguf cut-4096.gguf; do
    bad "wisp $command: $file" 1 "$file" "$wisp" $command -m "$work/$file"
  done
  # shellcheck disable=SC2086
  bad "wisp $command: a directory" 1 "$work" "$wisp" $command -m "$work"
  # shellcheck disable=SC2086
  bad "wisp $command: a path through a file" 1 "$work/text.gguf/x" "$wisp" $command -m "$work/text.gguf/x"
done
for cut in 65536 $((size / 2)) $((size - 4096)); do
  bad "info of the first $cut bytes" 1 "cut-$cut.gguf" "$wisp" info "$work/cut-$cut.gguf"
  bad "run with the first $cut bytes" 1 "cut-$cut.gguf" "$wisp" run "${cpu[@]}" -m "$work/cut-$cut.gguf" -p hi
done
bad "bench: missing file" 1 "missing.gguf" "$bench" "${cpu[@]}" -m "$work/missing.gguf"
bad "bench: JSON file in no folder" 1 "$work/none/x.json" "$bench" "${cpu[@]}" -m "$model" --json "$work/none/x.json"
if [ "$(id -u)" -eq 0 ]; then
  skip "unreadable file" "root reads every file"
else
  cp "$work/text.gguf" "$work/locked.gguf"
  chmod 000 "$work/locked.gguf"
  bad "unreadable file" 1 "locked.gguf" "$wisp" info "$work/locked.gguf"
fi
bad "prompt file missing" 1 "$work/nothing.txt" "${ask[@]}" -f "$work/nothing.txt"
bad "prompt file is a directory" 1 "$work: " "${ask[@]}" -f "$work"
bad "text file missing" 1 "$work/nothing.txt" "$wisp" perplexity "${cpu[@]}" -m "$model" -f "$work/nothing.txt"
printf 'a' >"$work/short.txt"
bad "perplexity of one token" 1 "short.txt.*at least 2" "$wisp" perplexity "${cpu[@]}" -m "$model" -f "$work/short.txt"

# ---- Prompts and contexts ------------------------------------------------------------------------------------------
: >"$work/empty.txt"
bad "empty prompt" 2 "prompt is empty" "${ask[@]}" -p ""
bad "empty prompt file" 2 "empty.txt is empty" "${ask[@]}" -f "$work/empty.txt"
printf 'word %.0s' {1..100} >"$work/long.txt"
bad "prompt longer than the context" 1 "prompt has 1[0-9]+ tokens, the context holds 32; use --ctx" \
  "${ask[@]}" -f "$work/long.txt" --ctx 32
bad "--ctx too large" "1 2" "." "${ask[@]}" -p hi --ctx 4294967295
bad "id outside the vocabulary" "1 2" "99999999" "$wisp" logits "${cpu[@]}" -m "$model" --ids 1,99999999
run "${ask[@]}" --raw -p "One two three four" --ignore-eos -n 64 --ctx 12
if [ $code -eq 1 ] && [ "$(wc -l <"$err")" -eq 1 ] && [ -s "$out" ] && grep -q "context of 12 tokens was full" "$err"; then
  pass
else
  fail "context full while generating" "exit code $code"
fi

# ---- What works ----------------------------------------------------------------------------------------------------
good "run" "${ask[@]}" -p "What is the capital of France?" -n 24
text "run answers" 'Paris'
cp "$out" "$work/answer"
if grep -q 'tok/s' "$err"; then pass; else fail "run" "no statistics on stderr"; fi
good "run --json" "${ask[@]}" -p "What is the capital of France?" -n 24 --json
json "run --json has its keys" '{"text", "prompt_ids", "ids", "timings", "device", "backend", "finish"} <= set(d)'
json "run --json has its timings" '{"load_ms", "init_ms", "prompt_ms", "decode_ms", "prompt_tok_per_s", "tok_per_s",
  "first_token_ms"} <= set(d["timings"]) and d["timings"]["tok_per_s"] > 0'
json "run --json tells the backend" 'd["backend"] == "cpu"'
json "run --json has the streamed text" "d['text'] == open('$work/answer').read()"
good "run, prompt from a file" "${ask[@]}" -f <(printf 'What is the capital of France?') -n 24
if cmp -s "$out" "$work/answer"; then pass; else fail "run -f" "another answer than with -p"; fi
good "run --raw" "${ask[@]}" --raw -p "1, 2, 3, 4," -n 3 --json
json "run --raw makes n tokens" 'len(d["ids"]) == 3 and d["finish"] == "length"'
sampled=(--temp 0.8 --top-k 40 --top-p 0.95 --min-p 0.02 --repeat-penalty 1.1 --repeat-window 32)
good "sampling" "${ask[@]}" -p "Tell a story." -n 12 "${sampled[@]}" --seed 7
cp "$out" "$work/sampled"
good "sampling again" "${ask[@]}" -p "Tell a story." -n 12 "${sampled[@]}" --seed 7
if cmp -s "$out" "$work/sampled"; then pass; else fail "sampling" "the same seed gave another text"; fi
for filter in "--top-p 0.95 --seed 1" "--top-k 40 --seed 2" "--min-p 0.05 --seed 3"; do
  # shellcheck disable=SC2206
  story=(run -m "$model" --raw -p "Once upon a time" -n 8 --ctx 64 --temp 0.8 $filter)
  good "drawn by the CPU, $filter" "$wisp" "${story[@]}" --device cpu
  cp "$out" "$work/story"
  good "drawn by the GPU, $filter" "$wisp" "${story[@]}" --device vulkan
  if cmp -s "$out" "$work/story"; then pass; else fail "drawn by the GPU, $filter" "$(tr '\n' ' ' <"$out"), by the CPU $(tr '\n' ' ' <"$work/story")"; fi
done
run "${ask[@]}" -p hi -n 1 --kv f32 --threads 1 --system "Be brief." -v
if [ $code -eq 0 ] && grep -q 'wisp: info: ' "$err"; then pass; else fail "run -v" "exit code $code or no info line"; fi
"${ask[@]}" -p hi -n 8 >/dev/full 2>"$err"
if [ $? -eq 1 ] && grep -q 'cannot write standard output' "$err"; then pass; else fail "run >/dev/full" "not noticed"; fi

printf 'word %.0s' {1..16000} >"$work/longer.txt"
good "run, interrupted while it reads" timeout --foreground --preserve-status -s INT 4 "${ask[@]}" --raw -f "$work/longer.txt" --ctx 16384 -n 1 --json
json "what was read is what counts" '(d["finish"] == "stopped" and d["ids"] == [] and
  d["timings"]["prompt_tok_per_s"] * d["timings"]["prompt_ms"] / 1e3 < len(d["prompt_ids"]) - 1)'

printf 'What is the capital of France?\n/stats\n/help\nAnd of Italy?\n/nonsense\n/reset\n/quit\nnever read\n' >"$work/talk.txt"
if "$wisp" chat "${cpu[@]}" -m "$model" -n 24 <"$work/talk.txt" >"$out" 2>"$err" && grep -q Paris "$out" && grep -q Rome "$out" &&
  grep -q '/reset' "$err" && [ "$(grep -c 'tok/s' "$err")" -eq 1 ]; then
  pass
else
  fail "chat through a pipe" "$(tr '\n' ' ' <"$out")"
fi
if printf 'Count.\n' | "$wisp" chat "${cpu[@]}" -m "$model" --ctx 40 -n 100 >"$out" 2>"$err" && grep -q '/reset' "$err"; then pass; else fail "chat with a full context" "does not offer /reset"; fi

# ---- States --------------------------------------------------------------------------------------------------------
cp "$model" "$work/other.gguf" && printf '\001' | dd of="$work/other.gguf" bs=1 seek=$((size - 5000)) conv=notrunc status=none
question=(-p "What is the capital of France?" -n 24)
good "run --save-state" "${ask[@]}" "${question[@]}" --save-state "$work/france.state"
if cmp -s "$out" "$work/answer" && [ -s "$work/france.state" ] && ! compgen -G "$work/*.tmp" >/dev/null; then
  pass
else
  fail "run --save-state" "another answer, no state or a temporary file"
fi
good "run --load-state" "${ask[@]}" "${question[@]}" --json --load-state "$work/france.state" --save-state "$work/again.state"
json "the answer is the same" "d['text'] == open('$work/answer').read()"
json "only the last token was read" 'd["prompt_reused"] == len(d["prompt_ids"]) - 1'
if cmp -s "$work/france.state" "$work/again.state"; then pass; else fail "run --save-state" "the same session gave another state"; fi
good "another question" "${ask[@]}" -p "What is the capital of Italy?" -n 24 --json --load-state "$work/france.state"
json "what it shares was not read" '10 < d["prompt_reused"] < len(d["prompt_ids"]) - 1'
cp "$out" "$work/italy.json"
good "without a state" "${ask[@]}" -p "What is the capital of Italy?" -n 24 --json
json "the answer is the same" "d['prompt_reused'] == 0 and d['ids'] == json.load(open('$work/italy.json'))['ids']"
for cut in 1 8 12 16 24 32 40 48 100 $(($(stat -c %s "$work/france.state") - 1)); do
  head -c "$cut" "$work/france.state" >"$work/cut.state"
  bad "the first $cut bytes of a state" 1 "cut.state: (is no saved session|is cut short|has $cut bytes)" \
    "${ask[@]}" "${question[@]}" --load-state "$work/cut.state"
done
cp "$work/france.state" "$work/damaged.state"
printf '\125\252' | dd of="$work/damaged.state" bs=1 seek=20000 conv=notrunc status=none
bad "a damaged state" 1 "damaged.state: is damaged" "${ask[@]}" "${question[@]}" --load-state "$work/damaged.state"
bad "a state that is none" 1 "text.gguf: is no saved session" "${ask[@]}" "${question[@]}" --load-state "$work/text.gguf"
bad "a missing state" 1 "none.state: cannot open" "${ask[@]}" "${question[@]}" --load-state "$work/none.state"
bad "a state of another KV type" 1 "K and V are f16, the session's f32" "${ask[@]}" "${question[@]}" --kv f32 --load-state "$work/france.state"
bad "a state of another model" 1 "france.state: was saved with another model" \
  "$wisp" run "${cpu[@]}" -m "$work/other.gguf" "${question[@]}" --load-state "$work/france.state"
run "${ask[@]}" "${question[@]}" --save-state "$work"
if [ $code -eq 1 ] && grep -q 'is a folder' "$err" && cmp -s "$out" "$work/answer"; then pass; else fail "--save-state FOLDER" "exit code $code"; fi

good "tokenize" "$wisp" tokenize -m "$model" "Hello world"
text "ids on one line" '^[0-9]+( [0-9]+)*.$'
cp "$out" "$work/ids"
printf 'Hello world' >"$work/hello.txt"
good "tokenize -f" "$wisp" tokenize -m "$model" -f "$work/hello.txt"
if cmp -s "$out" "$work/ids"; then pass; else fail "tokenize -f" "other ids"; fi
"$wisp" tokenize -m "$model" - <"$work/hello.txt" >"$out" 2>"$err"
if cmp -s "$out" "$work/ids"; then pass; else fail "tokenize -" "other ids"; fi
good "tokenize --pieces" "$wisp" tokenize -m "$model" --pieces "Hello world"
text "pieces are JSON strings" '^[0-9]+'$'\t''"Hello"'
good "tokenize nothing" "$wisp" tokenize -m "$model" ""
good "tokenize special" "$wisp" tokenize -m "$model" --special "<|im_start|>"
text "a special token is one id" '^[0-9]+.$'

info_keys='{"name", "architecture", "parameters", "executed_blocks", "weight_blocks", "kv_slots", "weight_bytes",
  "kv_bytes_per_token", "bytes_per_token", "dispatches_per_token", "barriers_per_token", "submits_per_token", "pipelines"} <= set(d)'
good "info" "$wisp" info "$model"
good "info --json" "$wisp" info "$model" --json --plan decode
json "info --json has its keys" "$info_keys"
json "info keeps the dispatch budget" '0 < d["dispatches_per_token"] <= 5 * d["executed_blocks"] + 3 and d["submits_per_token"] <= 1'
json "the plan has ops" 'len(d["plan"]) > d["executed_blocks"] and {"name", "bytes", "rows"} <= set(d["plan"][0])'
good "info of a shared shape" "$wisp" info --synthetic mobilellm-125m-ls --type q4_0 --json --plan prefill
json "block sharing is told" 'd["executed_blocks"] == 2 * d["weight_blocks"] == d["kv_slots"]'

good "info --kv q8_0" "$wisp" info "$model" --kv q8_0 --json
json "8 bits are 17/32 of f16, padded, and no dispatch more" '(d["kv_type"] == "q8_0" and d["dispatches_per_token"] == 5 * d["executed_blocks"] + 3 and
  d["kv_bytes_per_token"] == d["kv_slots"] * ((2 * d["kv_heads"] * d["head_size"] * 17 // 16 + 15) // 16 * 16))'
bad "q8_0 for heads of 16" 1 "heads of 16 are no multiple" "$wisp" logits --device cpu --synthetic tiny --ids 1 --kv q8_0
good "run --kv q8_0" "${ask[@]}" "${question[@]}" --kv q8_0 --save-state "$work/8-bit.state"
text "answers with a cache of 8 bits" 'Paris'
cp "$out" "$work/8-bit"
good "a state of 8 bits" "${ask[@]}" "${question[@]}" --kv q8_0 --load-state "$work/8-bit.state"
if cmp -s "$out" "$work/8-bit"; then pass; else fail "a state of 8 bits" "another answer"; fi
head -c 600 "$0" >"$work/passage.txt"
good "compare of two caches" "$wisp" compare "$model" --device cpu -f "$work/passage.txt" --window 32 --kv-b q8_0 --json
json "8 bits cost little" 'd["kl_mean"] > 0 and d["kl_mean"] < 0.05'

good "logits" "$wisp" logits "${cpu[@]}" -m "$model" --ids 1,2,3
json "logits has its shape" 'd["ids"] == [1, 2, 3] and [len(r) for r in d["logits"]] == [len(d["logits"][0])] * 3'
cp "$out" "$work/batch.json"
good "logits --step" "$wisp" logits "${cpu[@]}" -m "$model" --ids 1,2,3 --step
json "steps and batch agree" "max(abs(a - b) for r, s in zip(d['logits'], json.load(open('$work/batch.json'))['logits'])
  for a, b in zip(r, s)) < 1e-2"
good "logits of a text" "$wisp" logits "${cpu[@]}" -m "$model" -f "$work/hello.txt"
json "its ids are tokenize's" "d['ids'] == [int(i) for i in open('$work/ids').read().split()]"

head -c 600 "$0" >"$work/sample.txt"
good "perplexity" "$wisp" perplexity "${cpu[@]}" -m "$model" -f "$work/sample.txt" --window 64 --chunks 1
text "perplexity with its error" '^perplexity [0-9.]+ \+- [0-9.]+ \(32 scored tokens, 1 windows\)'
good "perplexity of a short text" "$wisp" perplexity "${cpu[@]}" -m "$model" -f "$work/hello.txt" --json
json "its second half is scored" 'd["scored_tokens"] == 1 and d["windows"] == 1 and d["perplexity"] > 1'

good "devices" "$wisp" devices
good "devices --json" "$wisp" devices --json
json "the CPU is last" 'd[-1]["backend"] == "cpu" and all({"selector", "name", "tier", "usable", "why_not"} <= set(e) for e in d)'

rows='["model", "type", "device", "backend", "threads", "test", "depth", "tok_per_s", "tok_per_s_stddev", "ms_p50", "ms_p90",
  "ms_p99", "bytes_per_token", "gb_per_s", "dispatches_per_token", "submits_per_token", "host_us_per_token", "load_ms", "init_ms",
  "first_token_ms", "peak_device_bytes", "peak_rss_bytes", "joules_per_token"]'
good "bench" "$bench" "${cpu[@]}" -m "$model" -p 8 -n 4 -d 0,16 -r 2 --json "$work/rows.json" --csv "$work/rows.csv"
text "the table" 'tok/s.*pp8.*tg4.*faster here'
cp "$work/rows.json" "$out"
json "rows have exactly the keys" "all(list(r) == $rows for r in d)"
json "rows are the tests" '[(r["test"], r["depth"]) for r in d] == [("pp8", 0), ("tg4", 0), ("pp8", 16), ("tg4", 16)]'
json "rows have numbers" 'all(r["tok_per_s"] > 0 and r["ms_p50"] <= r["ms_p99"] and r["peak_rss_bytes"] > 1e6 for r in d)'
json "unknown is null" 'd[1]["dispatches_per_token"] is None and d[1]["joules_per_token"] is None'
if [ "$(wc -l <"$work/rows.csv")" -eq 5 ]; then pass; else fail "bench --csv" "not a header and four rows"; fi
good "bench: kernels, floors, several sessions" env WISP_CPU=c "$bench" "${cpu[@]}" -m "$model" -p 4 -n 2 -r 1 -t 2 --affinity 0 --sessions 3
text "bench prints kernels and threads" 'kernels c, 2 threads, [0-9]+ cores'
text "bench prints floors" 'floors: reply .* to read .* to multiply'
text "bench prints sessions" 'tg2x3 '
good "bench --json -" "$bench" "${cpu[@]}" --synthetic mobilellm-125m --type q8_0 -p 4 -n 2 -r 1 --json -
json "only JSON on stdout" 'len(d) == 2 and d[0]["model"] == "mobilellm-125m"'
good "bench --start-up" "$bench" "${cpu[@]}" --synthetic tiny -p 4 -r 2 --start-up --json -
json "a cold and a warm start" '[r["test"] for r in d] == ["start cold", "start warm"] and all(r["init_ms"] > 0 and r["first_token_ms"] > 0 for r in d)'

# ---- No Vulkan -----------------------------------------------------------------------------------------------------
bad "run on Vulkan without a driver" 1 "[Vv]ulkan" "${no_vulkan[@]}" "$wisp" run -m "$model" -p hi --device vulkan
bad "bench on Vulkan without a driver" 1 "[Vv]ulkan" "${no_vulkan[@]}" "$bench" -m "$model" -p 4 -n 2 -r 1 --device vulkan,cpu
good "run anywhere without a driver" "${no_vulkan[@]}" "$wisp" run -m "$model" -p hi -n 2 --json
json "it ran on the CPU" 'd["backend"] == "cpu"'
good "bench anywhere without a driver" "${no_vulkan[@]}" "$bench" -m "$model" -p 4 -n 2 -r 1 --json "$work/rows.json"
if grep -q 'wisp-bench: warning: .*[Vv]ulkan' "$err"; then pass; else fail "bench without a driver" "no warning"; fi
good "devices without a driver" "${no_vulkan[@]}" "$wisp" devices --json
json "only the CPU is there" '[e["backend"] for e in d] == ["cpu"]'

# ---- Vulkan --------------------------------------------------------------------------------------------------------
run "$wisp" devices --json
if python3 -c 'import json, sys; sys.exit(not any(e["backend"] == "vulkan" and e["usable"] for e in json.load(open(sys.argv[1]))))' "$out"; then
  bad "unknown device index" 1 "vulkan:77|device 77|index 77" "$wisp" run -m "$model" -p hi --device vulkan:77
  good "run on Vulkan" "$wisp" run -m "$model" -p "What is the capital of France?" -n 24 --device vulkan --json
  json "the same answer as the CPU" "d['backend'] == 'vulkan' and d['text'] == open('$work/answer').read()"
  good "a state of the CPU on Vulkan" "$wisp" run -m "$model" "${question[@]}" --device vulkan --json --load-state "$work/france.state"
  json "it goes on there" "d['prompt_reused'] == len(d['prompt_ids']) - 1 and d['text'] == open('$work/answer').read()"
  good "bench on both" "$bench" -m "$model" -p 8 -n 4 -r 1 --json "$work/rows.json"
  text "GPU beside CPU" 'GPU/CPU.*faster here: pp8 (vulkan|cpu) \([0-9.]+x\), tg4'
  cp "$work/rows.json" "$out"
  json "rows of both" '[r["backend"] for r in d] == ["vulkan", "vulkan", "cpu", "cpu"]'
  json "what Vulkan counted" 'd[1]["dispatches_per_token"] > 0 and d[1]["submits_per_token"] <= 1 and d[1]["host_us_per_token"] > 0'
  good "info --compile" "$wisp" info "$model" --compile --device vulkan --json
  json "its pipelines" 'len(d["pipeline_stats"]) > 0 and {"name", "constants", "statistics"} <= set(d["pipeline_stats"][0])'
else
  skip "Vulkan" "no usable device"
fi

checked
