# Redis, from the Debian package. Sourced by engines.sh.
REDIS_PORT=${MOSAIC_REDIS_PORT:-56379}

install_redis() { install_packages redis-server; }
is_installed_redis() { command -v redis-server >/dev/null; }
start_redis() {
    d=$(data_dir redis "$(id -un)") || return 1
    detach "$DIR/redis.log" redis-server --port "$REDIS_PORT" --bind 127.0.0.1 --dir "$d" --save '' --appendonly no
}
ready_redis() { [ "$(redis-cli -h 127.0.0.1 -p "$REDIS_PORT" ping 2>/dev/null)" = PONG ]; }
stop_redis() { redis-cli -h 127.0.0.1 -p "$REDIS_PORT" shutdown nosave >/dev/null 2>&1; }
docker_redis() {
    docker run -d --name "$1" -p "127.0.0.1:$REDIS_PORT:6379" redis:7-alpine --save ''
}
docker_ready_redis() { docker exec "$1" redis-cli ping; }
url_redis() { say "export MOSAIC_TEST_REDIS=redis://127.0.0.1:$REDIS_PORT"; }
