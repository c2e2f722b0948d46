#!/bin/sh
# Installs Rollcall on a machine, as root, from the directory of this script. Starts nothing: the instance's user data
# enables the unit of its role.
set -eu
cd "$(dirname "$0")"

id rollcall > /dev/null 2>&1 || useradd --system --home-dir /opt/rollcall --shell /usr/sbin/nologin rollcall
mkdir -p /opt/rollcall /etc/rollcall
install -m 755 rollcall /opt/rollcall/rollcall
cp -R models/. /opt/rollcall/
chmod -R a+rX /opt/rollcall
install -m 644 aws.toml /etc/rollcall/aws.toml
install -m 644 rollcall-logs.service rollcall-serve.service rollcall-worker.service /etc/systemd/system/
systemctl daemon-reload

# The program, ONNX Runtime and the models must load on this machine. If its C library is too old, the installation
# fails here, instead of the first job.
cd /opt/rollcall
data=$(mktemp -d)
ROLLCALL__CLOUD__KIND=local ROLLCALL__LOCAL__DATA_DIR=$data ./rollcall doctor
rm -r "$data"
