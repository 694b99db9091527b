#!/usr/bin/env bash
# The benchmarks of what runs on a GPU (those of onnxruntime and of the metrics run on a CPU alone); each writes its
# numbers as JSON, and what it prints, into one folder.
#
#   benchmarks/gpu.sh [--dry-run] [FOLDER]        default: gpu-benchmarks
#
# --dry-run prints the commands and runs none. MODEL, REVIEWS and SENTENCES (environment) name the AdapLeR model, a
# corpus of long documents in ERASER layout (`adapler data download`), and a folder of short texts of one's own, with
# train.jsonl and test.jsonl.
# A benchmark that fails ends none of the others; its name is printed, and the exit code is 1.
set -euo pipefail
cd "$(dirname "$0")/.."

dry=no
if [ "${1:-}" = --dry-run ]; then
  dry=yes
  shift
fi
if [ $# -gt 1 ] || [[ "${1:-}" == -* ]]; then
  echo "usage: benchmarks/gpu.sh [--dry-run] [FOLDER]" >&2
  exit 2
fi
folder=${1:-gpu-benchmarks}
model=${MODEL:-checkpoints/movies-minilm}
reviews=${REVIEWS:-data/eraser/movies}
sentences=${SENTENCES:-data/sst2}
python=${PYTHON:-python}
failed=()

run() { # NAME COMMAND...: standard output and errors go to NAME.txt
  local name=$1
  shift
  printf '%q ' "$@"
  printf '> %q\n' "$folder/$name.txt"
  [ $dry = yes ] && return
  "$@" > "$folder/$name.txt" 2>&1 || failed+=("$name")
}

if [ $dry = no ]; then
  if ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    echo "benchmarks/gpu.sh: PyTorch sees no GPU on this machine" >&2
    exit 1
  fi
  for path in "$reviews" "$sentences/train.jsonl" "$sentences/test.jsonl"; do
    if [ ! -e "$path" ]; then
      echo "benchmarks/gpu.sh: $path is not there; see REVIEWS and SENTENCES at the top of this file" >&2
      exit 1
    fi
  done
  mkdir -p "$folder"
  "$python" -c 'import torch; print(torch.cuda.get_device_name(), torch.__version__)' > "$folder/machine.txt"
fi

run inference-reviews "$python" benchmarks/inference.py --device cuda --model "$model" --data "$reviews" --rows 0 \
  --batches 1 8 32 tokens --batch-tokens 65536 --dtype float32 bfloat16 --threads 1 \
  --output "$folder/inference-reviews.json"
run inference-sentences "$python" benchmarks/inference.py --device cuda --model "$model" --data "$sentences" --rows 0 \
  --lengths 16 64 128 --batches 1 8 32 tokens --batch-tokens 65536 --dtype float32 bfloat16 --threads 1 \
  --output "$folder/inference-sentences.json"
run dtypes "$python" benchmarks/inference.py --device cuda --model "$model" --data "$reviews" --rows 0 \
  --compare-dtypes --output "$folder/dtypes.json"
run training "$python" benchmarks/training.py --model "$model" --data "$reviews" --rows 256 --max-length 512 \
  --precision float32 bfloat16 --output "$folder/training.json"
run predict "$python" benchmarks/predict.py --model "$model" --texts "$sentences/train.jsonl" --rows 10000 100000 \
  --processes 1 --output "$folder/predict.json"
for dtype in float32 bfloat16; do
  run "packed-attention-$dtype" "$python" benchmarks/packed_attention.py --device cuda --dtype "$dtype" \
    --output "$folder/packed-attention-$dtype.json"
done
run attribution "$python" benchmarks/attribution.py --device cuda --adapler "$model" --data "$reviews" \
  --output "$folder/attribution.json"

if [ ${#failed[@]} -gt 0 ]; then
  echo "failed: ${failed[*]} (see their .txt in $folder)" >&2
  exit 1
fi
