#!/usr/bin/env bash
# A SLURM on one Debian host for the tests marked slurm: installs what is missing, starts what is not running.
# One node has the host's CPUs; two more, of the partition "wide", have eight each whatever the host has.
# Jobs that an interrupted run of the tests left are cancelled: they would keep the next run's waiting.
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

running() {  # is the daemon of this pid file alive: the number may be another process's by now, or a dead one's
  local pid
  pid=$(cat "$1" 2>/dev/null) && readlink "/proc/$pid/exe" >/dev/null && # a zombie has none
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$(basename "$1" .pid)" ]
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
  cpus=$(env --unset=OMP_NUM_THREADS nproc)  # which would count those threads
  memory=$(awk '/MemTotal/ {print int($2 / 1024 / 1024 * 0.9) * 1024}' /proc/meminfo)
  for name in "$host" wide1 wide2; do
    grep -qw "$name" /etc/hosts || echo "127.0.0.1 $name" >>/etc/hosts
  done
  printf '#!/bin/sh\necho "$*" >>/var/log/slurm/mail.log\n' >/usr/local/sbin/slurm-mail
  chmod +x /usr/local/sbin/slurm-mail
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
SlurmdPidFile=/run/slurmd.%n/slurmd.pid
SlurmdSpoolDir=/var/spool/slurmd/%n
SlurmdParameters=config_overrides
MailProg=/usr/local/sbin/slurm-mail
StateSaveLocation=/var/spool/slurmctld
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurm/slurmd.%n.log
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
NodeName=$host NodeHostname=$host Port=17001 CPUs=$cpus RealMemory=$memory State=UNKNOWN
NodeName=wide[1-2] NodeHostname=$host Port=[17002-17003] CPUs=8 RealMemory=$memory State=UNKNOWN
PartitionName=debug Nodes=$host Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=20
PartitionName=wide Nodes=wide[1-2] MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=high Nodes=$host MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
EOT
}

stop() {  # a running daemon does not take up a changed node or array size
  running "$1" || return 0
  kill "$(cat "$1")"
  while running "$1"; do sleep 0.2; done
}

usable() { [ "$(sinfo --noheader --Node --format='%N %t' | sort -u | grep -cE ' (idle|mix|alloc|comp)$')" = 3 ]; }

idle() { [ -z "$(squeue --noheader)" ]; }

install_packages
start_munge
before=$(cat /etc/slurm/slurm.conf 2>/dev/null || true)
write_configuration
if [ "$before" != "$(cat /etc/slurm/slurm.conf)" ]; then
  for pid in /run/slurmd.pid /run/slurmd.*/slurmd.pid /run/slurmctld.pid; do stop $pid; done
fi
running /run/slurmctld.pid || slurmctld -c  # forgets the jobs and drained nodes of a killed one
for node in "$(hostname -s)" wide1 wide2; do
  mkdir -p "/run/slurmd.$node" "/var/spool/slurmd/$node"
  running "/run/slurmd.$node/slurmd.pid" || slurmd -N "$node"
done
wait_for usable
squeue --noheader --format=%A | xargs --no-run-if-empty scancel
wait_for idle
srun --ntasks=1 --mem=100 hostname
srun --partition=wide --nodes=2 --ntasks-per-node=2 --mem=100 hostname
