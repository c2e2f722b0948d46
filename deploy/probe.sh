# Runs at the first boot of a probe, an instance with a role of the stack that `rollcall aws verify` launches. The command
# prepends lines that set the variables minutes, attempts and report, and those of a worker's user data that write its
# settings.

# Whatever happens, the instance shuts down, which terminates it.
shutdown -P "+$minutes"
log=/var/log/rollcall-verify
set -a
. /etc/rollcall/cluster.env
cd /opt/rollcall
echo "$attempts" | ./rollcall --config /etc/rollcall/aws.toml aws attempt > "$log" 2> "$log.err"
cat "$log.err" >> "$log"
cat "$log"
curl -fsS --retry 5 -T "$log" "$report"
shutdown -P now
