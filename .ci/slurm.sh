#!/usr/bin/env bash
# Installs and starts a one-node SLURM on Debian as root, without systemd and without questions.
#   .ci/slurm.sh [--accounting]        idempotent; exits 0 when the node is idle and srun works
set -euo pipefail
ACCT=0; [ "${1:-}" = --accounting ] && ACCT=1
export DEBIAN_FRONTEND=noninteractive
pkgs=(slurm-wlm munge); [ $ACCT = 1 ] && pkgs+=(slurmdbd mariadb-server)
missing=(); for p in "${pkgs[@]}"; do dpkg -s "$p" >/dev/null 2>&1 || missing+=("$p"); done
if [ ${#missing[@]} -gt 0 ]; then
  apt-get update -qq
  # stop packages from starting services by themselves (no systemd here)
  had=1; [ -e /usr/sbin/policy-rc.d ] || { had=0; printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d; }
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  [ $had = 1 ] || rm -f /usr/sbin/policy-rc.d
fi
alive() { [ -s "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null; }
wait_for() { local n=$1; shift; for _ in $(seq "$n"); do "$@" >/dev/null 2>&1 && return 0; sleep 0.2; done; echo "timed out: $*" >&2; return 1; }

H=$(hostname -s); grep -qw "$H" /etc/hosts || echo "127.0.0.1 $H" >>/etc/hosts
CPUS=$(nproc); MEM=$(awk '/MemTotal/{print int($2/1024*0.9)}' /proc/meminfo)
PROCTRACK=proctrack/linuxproc                      # signals every process of a step
mkdir -p /etc/slurm
if [ -w /sys/fs/cgroup/freezer ]; then             # like a real cluster: signals the task only
  PROCTRACK=proctrack/cgroup
  printf 'CgroupPlugin=cgroup/v1\nCgroupMountpoint=/sys/fs/cgroup\n' >/etc/slurm/cgroup.conf
fi
STORE=accounting_storage/none; [ $ACCT = 1 ] && STORE=accounting_storage/slurmdbd
cat >/etc/slurm/slurm.conf <<EOF
ClusterName=test
SlurmctldHost=$H
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=5
MpiDefault=none
ProctrackType=$PROCTRACK
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
DefMemPerCPU=$((MEM / CPUS))
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=1,sched_interval=2,bf_interval=2
KillWait=5
MinJobAge=300
MaxArraySize=21
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=$STORE
AccountingStorageHost=localhost
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=$H CPUs=$CPUS RealMemory=$MEM State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=20
PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
EOF
mkdir -p /var/log/slurm /var/spool/slurmd /var/spool/slurmctld /run/munge /var/log/munge /var/lib/munge
[ -s /etc/munge/munge.key ] || { dd if=/dev/urandom of=/etc/munge/munge.key bs=1 count=1024 status=none; }
chown -R munge:munge /etc/munge /run/munge /var/log/munge /var/lib/munge; chmod 700 /etc/munge /var/log/munge; chmod 711 /var/lib/munge; chmod 755 /run/munge; chmod 400 /etc/munge/munge.key
alive /run/munge/munged.pid || setpriv --reuid=munge --regid=munge --clear-groups /usr/sbin/munged
wait_for 25 munge -n
if [ $ACCT = 1 ]; then
  install -d -o mysql -g mysql /run/mysqld
  if ! mariadb-admin ping >/dev/null 2>&1; then
    setsid mariadbd --user=mysql --skip-networking --innodb-buffer-pool-size=64M --innodb-lock-wait-timeout=900 >/var/log/slurm/mariadbd.log 2>&1 </dev/null &
    wait_for 150 mariadb-admin ping
  fi
  mariadb -e "CREATE DATABASE IF NOT EXISTS slurm_acct_db; CREATE USER IF NOT EXISTS 'slurm'@'localhost' IDENTIFIED BY 'slurm'; GRANT ALL ON slurm_acct_db.* TO 'slurm'@'localhost';"
  printf '%s\n' AuthType=auth/munge DbdHost=localhost SlurmUser=root LogFile=/var/log/slurm/slurmdbd.log PidFile=/run/slurmdbd.pid \
    StorageType=accounting_storage/mysql StorageHost=localhost StorageUser=slurm StoragePass=slurm StorageLoc=slurm_acct_db >/etc/slurm/slurmdbd.conf
  chmod 600 /etc/slurm/slurmdbd.conf
  alive /run/slurmdbd.pid || slurmdbd
  wait_for 150 sacctmgr -n show cluster
  sacctmgr -n show cluster | grep -qw test || sacctmgr -i add cluster test >/dev/null
fi
alive /run/slurmctld.pid || slurmctld
alive /run/slurmd.pid || slurmd
ok() { [ "$(sinfo -h -o %T | head -1)" = idle ]; }
wait_for 150 ok
timeout 30 srun -n1 hostname
