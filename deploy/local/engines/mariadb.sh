# MariaDB, from the Debian package. Sourced by engines.sh.
MY_PORT=${MOSAIC_MARIADB_PORT:-53306}

install_mariadb() { install_packages mariadb-server; }
is_installed_mariadb() { command -v mariadbd >/dev/null && command -v mariadb-install-db >/dev/null; }
start_mariadb() {
    d=$(data_dir mariadb mysql) || return 1
    u=$(is_root && say mysql || id -un)
    if [ ! -d "$d/db/mysql" ]; then
        mariadb-install-db --no-defaults --datadir="$d/db" --user="$u" --auth-root-authentication-method=normal \
            --skip-test-db >"$DIR/mariadb-init.log" 2>&1 \
            || fail "mariadb: mariadb-install-db failed, see $DIR/mariadb-init.log" || return 1
    fi
    # One statement a line: more on a line are not read.
    say "create user if not exists 'dev'@'%' identified by 'dev';" >"$d/init.sql"
    say "grant all on *.* to 'dev'@'%' with grant option;" >>"$d/init.sql"
    detach "$DIR/mariadb.log" mariadbd --no-defaults --user="$u" --datadir="$d/db" --socket="$d/s.sock" \
        --pid-file="$d/pid" --port="$MY_PORT" --bind-address=127.0.0.1 --init-file="$d/init.sql" --skip-name-resolve \
        --innodb-flush-log-at-trx-commit=0 --sync-binlog=0 --innodb-buffer-pool-size=64M --max-connections=200 \
        --character-set-server=utf8mb4
}
ready_mariadb() { mariadb --no-defaults -h127.0.0.1 "-P$MY_PORT" -udev -pdev -e 'select 1' >/dev/null 2>&1; }
stop_mariadb() { kill "$(cat "$(data_dir mariadb mysql)/pid")"; }
docker_mariadb() {
    docker run -d --name "$1" -p "127.0.0.1:$MY_PORT:3306" -e MARIADB_ROOT_PASSWORD=dev \
        -e MARIADB_USER=dev -e MARIADB_PASSWORD=dev mariadb:10.11 --max-connections=200
}
docker_ready_mariadb() { docker exec "$1" mariadb -h127.0.0.1 -uroot -pdev -e "grant all on *.* to 'dev'@'%'"; }
url_mariadb() { say "export MOSAIC_TEST_MYSQL=mysql://dev:dev@127.0.0.1:$MY_PORT/mosaic_test"; }
