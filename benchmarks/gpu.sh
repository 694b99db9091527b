#!/usr/bin/env bash
# All benchmarks of what runs on a GPU, as text and JSON in one folder: benchmarks/gpu.sh [FOLDER]
# MODEL, REVIEWS (a corpus in ERASER layout) and SENTENCES (a .jsonl) name what is read. A failure ends no other one.
set -uo pipefail
cd "$(dirname "$0")/.."
folder=${1:-gpu-benchmarks} model=${MODEL:-checkpoints/movies-minilm}
reviews=${REVIEWS:-data/eraser/movies} sentences=${SENTENCES:-data/sst2/test.jsonl}
mkdir -p "$folder"
failed=0

run() { # NAME COMMAND...
  local name=$1
  shift
  "$@" > "$folder/$name.txt" 2>&1 || { echo "failed: $name, see $folder/$name.txt" >&2; failed=1; }
}

speed=(python benchmarks/speed.py --device cuda --model "$model" --dtype float32 bfloat16 --threads 1)
run speed-reviews "${speed[@]}" --texts "$reviews" --batches 1 8 32 tokens --batch-tokens 65536 --output "$folder/reviews.json"
run speed-sentences "${speed[@]}" --texts "$sentences" --lengths 16 64 128 --batches 1 32 tokens --output "$folder/sentences.json"
run predict python benchmarks/predict.py --model "$model" --texts "$sentences" --rows 10000 100000 --output "$folder/predict.json"
run attribution python benchmarks/attribution.py --device cuda --adapler "$model" --texts "$reviews" --output "$folder/attribution.json"
exit $failed
