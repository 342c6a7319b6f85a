#!/usr/bin/env bash
# Train the small base of refocus on one GPU (H100 or H200), in stages that are processes of their own.
#   bash experiments/pretraining/lease_refocus_base.sh            # scenes, base, pack
#   bash experiments/pretraining/lease_refocus_base.sh base pack  # some of them
#   STEPS=20 SCENES=512 BATCH=8 bash experiments/pretraining/lease_refocus_base.sh    # rehearsal on a CPU
# `base` ends after $MINUTES (8, at most 9), validated and exported; with more, it goes on from its own
# checkpoint. Files for the way home lie in $OUT (runs/refocus_base/out), 15 MB at most each: the
# export in parts, restoration.json (the gates), metrics.json. A second session, without the run
# folder, goes on from the export: FROM=folder.
set -uo pipefail
run=${RUN:-runs/refocus_base}
out=${OUT:-$run/out}
python=${PYTHON:-python}
stages=("$@")
[ ${#stages[@]} -gt 0 ] || stages=(scenes base pack)
# Matrix products in TF32: bf16 would cost the copy a part of its precision.
export TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1 PYTHONUNBUFFERED=1
words=(experiments/pretraining/refocus_base.yaml --trainer.default_root_dir "$run"
    --data.scenes "${SCENES:-40000}" --data.batch_size "${BATCH:-512}"
    --trainer.max_steps "${STEPS:-2900}" --trainer.val_check_interval "${STEPS:-2900}")
[ -z "${STEPS:-}" ] || words+=(--model.probe.scenes 4 --data.val_batch_size 4
    --model.num_inference_steps 2 --model.lr_schedule.cooldown_steps 0)
[ -z "${FROM:-}" ] || words+=(--model.backbone.weights "$FROM")

failed=0
for stage in "${stages[@]}"; do
    echo "$(date -u +%FT%TZ) $stage"
    case $stage in
        # Scenes into the cache folder, on all cores
        scenes)
            "$python" -c "from dofsuite.pretraining import ScenePool
ScenePool(${SCENES:-40000}, batch_size=1).prepare_data()" ;;
        base)
            "$python" -m dofsuite.fit "${words[@]}" --trainer.max_time "00:00:0${MINUTES:-8}:00" ;;
        pack)
            mkdir -p "$out"
            cp "$run"/*.json "$run"/sheets/*.png "$out" 2> /dev/null
            tar -C "$run" -cf - export | split -b 15m - "$out/export.tar.part-" ;;
        *) echo "lease_refocus_base.sh: $stage is no stage." >&2; exit 2 ;;
    esac
    code=$?
    [ $code -eq 0 ] || { echo "$stage: exit code $code" >&2; failed=1; }
done
exit $failed
