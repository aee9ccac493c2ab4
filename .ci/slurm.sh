#!/usr/bin/env bash
# A one-node SLURM on Debian for the tests marked slurm: installs what is missing, starts what is not running.
# Run as root; no systemd needed, nothing is asked. Ends when a job has run.
set -euo pipefail

install_packages() {
  dpkg -s slurm-wlm munge >/dev/null 2>&1 && return
  export DEBIAN_FRONTEND=noninteractive
  local policy=/usr/sbin/policy-rc.d  # keeps packages from starting daemons
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod +x $policy
    trap "rm -f $policy" EXIT
  fi
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends slurm-wlm munge >/dev/null
}

running() {  # is the daemon of this pid file alive: after a crash the number may be another process's
  local pid
  pid=$(cat "$1" 2>/dev/null) && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$(basename "$1" .pid)" ]
}

wait_for() {
  for _ in $(seq 150); do
    "$@" >/dev/null 2>&1 && return
    sleep 0.2
  done
  echo "not ready after 30 s: $*" >&2
  return 1
}

start_munge() {
  mkdir -p /etc/munge /run/munge /var/log/munge /var/lib/munge
  [ -s /etc/munge/munge.key ] || head -c 1024 /dev/urandom >/etc/munge/munge.key
  chown -R munge:munge /etc/munge /run/munge /var/log/munge /var/lib/munge
  chmod 700 /etc/munge /var/log/munge
  chmod 711 /var/lib/munge
  chmod 755 /run/munge
  chmod 400 /etc/munge/munge.key
  # what a killed daemon leaves behind would keep the next one from starting
  running /run/munge/munged.pid || rm -f /run/munge/munge.socket.2* /run/munge/munged.pid
  running /run/munge/munged.pid || setpriv --reuid=munge --regid=munge --clear-groups /usr/sbin/munged
  wait_for munge -n
}

write_configuration() {
  local host cpus memory tracking=linuxproc
  host=$(hostname -s)
  cpus=$(nproc)
  memory=$(awk '/MemTotal/ {print int($2 / 1024 / 1024 * 0.9) * 1024}' /proc/meminfo)
  grep -qw "$host" /etc/hosts || echo "127.0.0.1 $host" >>/etc/hosts
  mkdir -p /etc/slurm /var/log/slurm /var/spool/slurmd /var/spool/slurmctld
  if [ -w /sys/fs/cgroup/freezer ]; then  # as on a cluster: a job's signals reach its task only
    tracking=cgroup
    printf 'CgroupPlugin=cgroup/v1\nCgroupMountpoint=/sys/fs/cgroup\n' >/etc/slurm/cgroup.conf
  fi
  # cred_expire: a requeued job waits that long. MaxArraySize: small, so that a test can exceed it.
  # DefMemPerCPU: without it a job takes the whole node. Jobs of "high" preempt those of "debug".
  cat >/etc/slurm/slurm.conf <<EOT
ClusterName=test
SlurmctldHost=$host
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=5
MpiDefault=none
ProctrackType=proctrack/$tracking
TaskPlugin=task/none
ReturnToService=2
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
SlurmdSpoolDir=/var/spool/slurmd
StateSaveLocation=/var/spool/slurmctld
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurm/slurmd.log
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=$((memory / cpus))
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=1,sched_interval=2,bf_interval=2
KillWait=5
MinJobAge=300
MaxArraySize=21
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=$host CPUs=$cpus RealMemory=$memory State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=20
PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
EOT
}

stop() {  # a running daemon does not take up a changed node or array size
  running "$1" || return 0
  kill "$(cat "$1")"
  while running "$1"; do sleep 0.2; done
}

usable() { sinfo --noheader --format=%T | grep -qE 'idle|mixed|allocated'; }

install_packages
start_munge
before=$(cat /etc/slurm/slurm.conf 2>/dev/null || true)
write_configuration
if [ "$before" != "$(cat /etc/slurm/slurm.conf)" ]; then
  stop /run/slurmd.pid
  stop /run/slurmctld.pid
fi
running /run/slurmctld.pid || slurmctld
running /run/slurmd.pid || slurmd
wait_for usable
srun --ntasks=1 --mem=100 hostname
