# etcd, from the Debian package. Sourced by engines.sh.
ETCD_PORT=${MOSAIC_ETCD_PORT:-52379}

install_etcd() { install_packages etcd-server; }
is_installed_etcd() { command -v etcd >/dev/null; }
start_etcd() {
    d=$(data_dir etcd "$(id -un)") || return 1
    peer=http://127.0.0.1:$((ETCD_PORT + 1))
    detach "$DIR/etcd.log" sh -c 'echo $$ >"$1/pid"; shift; exec "$@"' sh "$d" \
        etcd --data-dir "$d/db" --listen-client-urls "http://127.0.0.1:$ETCD_PORT" \
        --advertise-client-urls "http://127.0.0.1:$ETCD_PORT" --listen-peer-urls "$peer" \
        --initial-advertise-peer-urls "$peer" --initial-cluster "default=$peer" --unsafe-no-fsync \
        --logger zap --log-level warn
}
ready_etcd() { fetch "http://127.0.0.1:$ETCD_PORT/health" | grep -q true; }
stop_etcd() { kill "$(cat "$(data_dir etcd "$(id -un)")/pid")"; }
docker_etcd() {
    docker run -d --name "$1" -p "127.0.0.1:$ETCD_PORT:2379" quay.io/coreos/etcd:v3.5.17 \
        etcd --listen-client-urls http://0.0.0.0:2379 --advertise-client-urls "http://127.0.0.1:$ETCD_PORT"
}
docker_ready_etcd() { docker exec "$1" etcdctl endpoint health; }
url_etcd() { say "export MOSAIC_TEST_ETCD=etcd://127.0.0.1:$ETCD_PORT"; }
