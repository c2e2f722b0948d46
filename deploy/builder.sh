# Runs at the first boot of the builder, the instance from which the image is created. `rollcall aws bake` prepends
# lines that set the variables package, sha256, report and minutes.

# Whatever happens, the instance shuts down.
shutdown -P "+$minutes"
log=/var/log/rollcall-bake.log
(
    set -eu
    cd "$(mktemp -d)"
    curl -fsS --retry 5 -o package.tar.gz "$package"
    echo "$sha256  package.tar.gz" | sha256sum -c
    tar -xzf package.tar.gz
    sh rollcall/install.sh
    cd /
    rm -rf "$OLDPWD"
    # Emptied, so that each instance of the image generates its own id.
    : > /etc/machine-id
) > "$log" 2>&1
code=$?
cat "$log"
{
    echo "exit $code"
    tail -c 20000 "$log"
} > "$log.report"
curl -fsS --retry 5 -T "$log.report" "$report"
rm -f "$log.report"
sync
shutdown -P now
