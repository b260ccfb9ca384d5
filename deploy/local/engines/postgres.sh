# PostgreSQL, from the Debian package. Sourced by engines.sh.
PG_PORT=${MOSAIC_POSTGRES_PORT:-55432}
pg_bin() { ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1; }

install_postgres() { install_packages postgresql; }
is_installed_postgres() { [ -n "$(pg_bin)" ] && [ -x "$(pg_bin)/postgres" ]; }
start_postgres() {
    d=$(data_dir postgres postgres) || return 1
    if [ ! -f "$d/db/PG_VERSION" ]; then
        as postgres "$(pg_bin)/initdb" -D "$d/db" -U dev -A trust -E UTF8 --locale=C.UTF-8 --no-sync --no-instructions \
            >"$DIR/postgres-init.log" 2>&1 || fail "postgres: initdb failed, see $DIR/postgres-init.log" || return 1
    fi
    as postgres "$(pg_bin)/pg_ctl" -D "$d/db" -l "$d/log" -W -o "-p $PG_PORT -c listen_addresses=127.0.0.1 \
        -c unix_socket_directories=$d -c fsync=off -c synchronous_commit=off -c full_page_writes=off \
        -c shared_buffers=64MB -c max_connections=200" start >/dev/null
}
ready_postgres() { "$(pg_bin)/pg_isready" -q -h 127.0.0.1 -p "$PG_PORT"; }
stop_postgres() { as postgres "$(pg_bin)/pg_ctl" -D "$(data_dir postgres postgres)/db" -m fast -w stop >/dev/null 2>&1; }
docker_postgres() {
    docker run -d --name "$1" -p "127.0.0.1:$PG_PORT:5432" -e POSTGRES_USER=dev \
        -e POSTGRES_PASSWORD=dev postgres:15-alpine -c fsync=off -c max_connections=200
}
docker_ready_postgres() { docker exec "$1" pg_isready -q -h 127.0.0.1 -U dev; }
url_postgres() { say "export MOSAIC_TEST_POSTGRES=postgres://dev:dev@127.0.0.1:$PG_PORT/postgres"; }
