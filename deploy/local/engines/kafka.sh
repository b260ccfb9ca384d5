# Something that speaks Kafka, from PyPI (noida-db, an emulator), since no package has a broker; in Docker the real one.
# Good for producing, consuming, groups, offsets and seeking; not for transactions. Sourced by engines.sh.
KAFKA_PORT=${MOSAIC_KAFKA_PORT:-29092}

install_kafka() { install_from_pypi noida-db==0.2.3; }
noida() { ls "$PYPI"/lib/python3*/site-packages/noida_db/noida-db 2>/dev/null | head -1; }
is_installed_kafka() { [ -n "$(noida)" ]; }
start_kafka() {
    d=$(data_dir kafka "$(id -un)") || return 1
    chmod +x "$(noida)"
    detach "$DIR/kafka.log" sh -c 'echo $$ >"$1/pid"; shift; exec "$@"' sh "$d" \
        "$(noida)" start --data-dir "$d/db" --only kafka --kafka-port "$KAFKA_PORT"
}
ready_kafka() { timeout 2 bash -c "exec 3<>/dev/tcp/127.0.0.1/$KAFKA_PORT" 2>/dev/null; }
stop_kafka() { kill "$(cat "$(data_dir kafka "$(id -un)")/pid")"; }
docker_kafka() {
    docker run -d --name "$1" -p "127.0.0.1:$KAFKA_PORT:$KAFKA_PORT" -e KAFKA_NODE_ID=1 \
        -e KAFKA_PROCESS_ROLES=broker,controller -e KAFKA_CONTROLLER_LISTENER_NAMES=CONTROLLER \
        -e KAFKA_CONTROLLER_QUORUM_VOTERS=1@127.0.0.1:9093 -e KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR=1 \
        -e KAFKA_LISTENERS="PLAINTEXT://0.0.0.0:$KAFKA_PORT,CONTROLLER://127.0.0.1:9093" \
        -e KAFKA_ADVERTISED_LISTENERS="PLAINTEXT://127.0.0.1:$KAFKA_PORT" \
        -e KAFKA_LISTENER_SECURITY_PROTOCOL_MAP=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT apache/kafka:3.9.1
}
docker_ready_kafka() {
    docker exec "$1" /opt/kafka/bin/kafka-broker-api-versions.sh --bootstrap-server "127.0.0.1:$KAFKA_PORT"
}
url_kafka() { say "export MOSAIC_TEST_KAFKA=kafka://127.0.0.1:$KAFKA_PORT"; }
