#!/usr/bin/env bash
# Train on machines without a scheduler: the same command on every machine.
#
#   MACHINES=2 RANK_OF_MACHINE=0 ADDRESS=10.0.0.1 GPUS=8 launch/torchrun.sh \
#     --config recipes/paper/pretrain_synthetic.yaml --config recipes/hardware/node_8x80gb.yaml
#
# RANK_OF_MACHINE is 0 on the machine at ADDRESS and counts up; one machine needs no variable but GPUS. The numbers must
# be the recipe's `trainer.num_nodes` and `trainer.devices`, which this sets.
set -euo pipefail
machines=${MACHINES:-1}
gpus=${GPUS:?set GPUS to the number of processes on this machine, one per GPU}
exec torchrun --nnodes "$machines" --nproc-per-node "$gpus" --node-rank "${RANK_OF_MACHINE:-0}" \
  --master-addr "${ADDRESS:-127.0.0.1}" --master-port "${PORT:-29500}" \
  -m vfusion3d.cli fit "$@" --trainer.num_nodes "$machines" --trainer.devices "$gpus"
