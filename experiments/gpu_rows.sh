#!/usr/bin/env bash
# What one GPU (H100 or H200) has to show of docs/performance.md: JSON lines, with device and date.
#   bash experiments/gpu_rows.sh                    # every stage
#   bash experiments/gpu_rows.sh lens text2image    # some of them, in as many sessions as needed
# Each stage is a process of its own and ends within 14 minutes. Lines go to $ROWS
# (gpu_rows.jsonl), what was said beside them to $ROWS.log; exit code 1 if a stage failed.
# To rehearse without a GPU, at small sizes, where operations are counted instead of timed:
#   PX=64 ROWS=rehearsal.jsonl bash experiments/gpu_rows.sh
set -uo pipefail
rows=${ROWS:-gpu_rows.jsonl}
stages=("$@")
if [ ${#stages[@]} -eq 0 ]; then
    stages=(lens simulate refocus_512 refocus_512_compiled refocus_512_recomputed refocus_1024
        text2image text2image_compiled text2image_lora)
fi

# The words after `python -m dofsuite.bench` of each stage.
words_of() {
    case $1 in
        lens) echo lens --px "${PX:-1024}" ;;
        simulate) echo simulate --px "${PX:-1024}" ;;
        refocus_512) echo refocus --px "${PX:-512}" ;;
        refocus_512_compiled) echo refocus --px "${PX:-512}" --compile ;;
        refocus_512_recomputed) echo refocus --px "${PX:-512}" --recompute ;;
        refocus_1024) echo refocus --px "${PX:-1024}" --split-backward rows --compile ;;
        text2image) echo text2image --px "${PX:-1024}" ;;
        text2image_compiled) echo text2image --px "${PX:-1024}" --compile --channels-last ;;
        text2image_lora) echo text2image --px "${PX:-1024}" --lora-rank 64 ;;
        *) echo "gpu_rows.sh: $1 is no stage; see words_of in it." >&2; return 2 ;;
    esac
}

failed=0
for stage in "${stages[@]}"; do
    words=$(words_of "$stage") || exit 2
    echo "$(date -u +%FT%TZ) $stage: bench $words"
    # shellcheck disable=SC2086  # words are split on purpose
    timeout 840 "${PYTHON:-python}" -m dofsuite.bench $words >> "$rows" 2>> "$rows.log"
    code=$?
    [ $code -eq 0 ] || { echo "$stage: exit code $code; see $rows.log" >&2; failed=1; }
done
exit $failed
