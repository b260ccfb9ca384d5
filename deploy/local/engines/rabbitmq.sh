# RabbitMQ, from the Debian package, with a private epmd. Sourced by engines.sh.
AMQP_PORT=${MOSAIC_RABBITMQ_PORT:-25681}
EPMD_PORT=$((AMQP_PORT + 2))

install_rabbitmq() { install_packages rabbitmq-server; }
is_installed_rabbitmq() { [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ]; }
start_rabbitmq() {
    d=$(data_dir rabbitmq "$(id -un)") || return 1
    mkdir -p "$d/mnesia" "$d/log"
    say '[].' >"$d/plugins"
    {
        say "listeners.tcp.default = 127.0.0.1:$AMQP_PORT"
        say "loopback_users = none"
        say "disk_free_limit.absolute = 50MB"
    } >"$d/rabbitmq.conf"
    detach "$DIR/rabbitmq.log" env HOME="$d" ERL_EPMD_PORT="$EPMD_PORT" ERL_EPMD_ADDRESS=127.0.0.1 \
        RABBITMQ_HOME=/usr/lib/rabbitmq RABBITMQ_NODENAME=mosaic@localhost RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 \
        RABBITMQ_NODE_PORT="$AMQP_PORT" RABBITMQ_DIST_PORT=$((AMQP_PORT + 1)) RABBITMQ_MNESIA_BASE="$d/mnesia" \
        RABBITMQ_LOG_BASE="$d/log" RABBITMQ_LOGS=- RABBITMQ_CONFIG_FILE="$d/rabbitmq" \
        RABBITMQ_ENABLED_PLUGINS_FILE="$d/plugins" RABBITMQ_PID_FILE="$d/pid" RABBITMQ_CONF_ENV_FILE=/dev/null \
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +sbwt none" \
        /usr/lib/rabbitmq/bin/rabbitmq-server
}
# A server answers a version that it does not speak with its own.
ready_rabbitmq() {
    answer=$(printf 'AMQP\0\0\11\0' | timeout 2 bash -c "exec 3<>/dev/tcp/127.0.0.1/$AMQP_PORT; cat >&3; head -c 4 <&3" 2>/dev/null)
    [ "$answer" = AMQP ]
}
stop_rabbitmq() {
    kill "$(cat "$(data_dir rabbitmq "$(id -un)")/pid")"
    while kill -0 "$(cat "$(data_dir rabbitmq "$(id -un)")/pid" 2>/dev/null)" 2>/dev/null; do sleep 0.2; done
    ERL_EPMD_PORT=$EPMD_PORT ERL_EPMD_ADDRESS=127.0.0.1 epmd -kill >/dev/null 2>&1 || :
}
docker_rabbitmq() {
    docker run -d --name "$1" -p "127.0.0.1:$AMQP_PORT:5672" rabbitmq:3.13-alpine
}
docker_ready_rabbitmq() { docker exec "$1" rabbitmq-diagnostics -q check_port_connectivity; }
url_rabbitmq() { say "export MOSAIC_TEST_RABBITMQ=amqp://guest:guest@127.0.0.1:$AMQP_PORT/%2f"; }
