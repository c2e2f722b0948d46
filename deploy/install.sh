#!/bin/sh
# Installs Rollcall on a machine, as root, from the folder that this file is in. Nothing is started: the machine's user
# data says what it is to be.
set -eu
cd "$(dirname "$0")"

id rollcall > /dev/null 2>&1 || useradd --system --home-dir /opt/rollcall --shell /usr/sbin/nologin rollcall
mkdir -p /opt/rollcall /etc/rollcall
install -m 755 rollcall /opt/rollcall/rollcall
cp -R models/. /opt/rollcall/
chmod -R a+rX /opt/rollcall
install -m 644 aws.toml /etc/rollcall/aws.toml
install -m 644 rollcall-serve.service rollcall-worker.service /etc/systemd/system/
systemctl daemon-reload

# Program, ONNX Runtime and models must load on this machine: a C library that is too old shows here, not at the first job.
cd /opt/rollcall
data=$(mktemp -d)
ROLLCALL__CLOUD__KIND=local ROLLCALL__LOCAL__DATA_DIR=$data ./rollcall doctor
rm -r "$data"
