#!/bin/sh
# The engines that tests use: PostgreSQL, MariaDB, Redis and etcd on private ports with private data.
#
#   deploy/local/engines.sh up|down|status|env [postgres mariadb redis etcd]
#   eval "$(deploy/local/engines.sh env)"      # MOSAIC_TEST_POSTGRES, MOSAIC_TEST_MYSQL, MOSAIC_TEST_REDIS, MOSAIC_TEST_ETCD
#
# Uses the Debian packages; where one is missing it installs it (as root, or with sudo that asks no password), else runs
# the engine in Docker. Nothing is registered as a system service, no data outlive a crash (no fsync), all listen on
# 127.0.0.1 only. `up` twice is as good as once.
#
#   MOSAIC_ENGINES_DIR     data and logs    ~/.cache/mosaic/engines; for root /var/tmp/mosaic-engines, which the
#                          service users that root starts engines as can reach
#   MOSAIC_POSTGRES_PORT   55432       MOSAIC_MARIADB_PORT   53306       MOSAIC_REDIS_PORT   56379
#   MOSAIC_ETCD_PORT       52379; its peers' port is the next
#   MOSAIC_ENGINES_WAIT    seconds until an engine must be ready         60
set -u
export LC_ALL=C.UTF-8

is_root() { [ "$(id -u)" = 0 ]; }
if is_root; then DIR=/var/tmp/mosaic-engines; else DIR=${XDG_CACHE_HOME:-$HOME/.cache}/mosaic/engines; fi
DIR=${MOSAIC_ENGINES_DIR:-$DIR}
WAIT=${MOSAIC_ENGINES_WAIT:-60}
PG_PORT=${MOSAIC_POSTGRES_PORT:-55432}
MY_PORT=${MOSAIC_MARIADB_PORT:-53306}
REDIS_PORT=${MOSAIC_REDIS_PORT:-56379}
ETCD_PORT=${MOSAIC_ETCD_PORT:-52379}
postgres_bin() { ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1; }
PG_BIN=$(postgres_bin)

say() { printf '%s\n' "$*"; }
fail() { printf '%s\n' "$*" >&2; return 1; }

# Runs a command as the service user when we are root (PostgreSQL refuses root), else as ourselves.
as() {
    user=$1; shift
    if is_root; then (cd / && exec setpriv --reuid "$user" --regid "$user" --init-groups "$@"); else "$@"; fi
}

# Makes the data directory of an engine, owned by its service user when we are root.
data_dir() {
    mkdir -p "$DIR/$1" && { ! is_root || chown "$2" "$DIR/$1"; } && printf '%s\n' "$DIR/$1"
}

# Prints a page, or nothing.
fetch() { if command -v curl >/dev/null; then curl -s -m 2 "$1"; else wget -q -T 2 -O - "$1"; fi 2>/dev/null; }

# Starts a long-lived command, detached from this terminal, with its output in LOG.
detach() { log=$1; shift; setsid nohup "$@" >>"$log" 2>&1 </dev/null & }

# ---- what each engine is: package, program, image, start, stop, ready ------------------------------------------------

package_of() { case $1 in postgres) say postgresql ;; mariadb) say mariadb-server ;; redis) say redis-server ;; etcd) say etcd-server ;; esac; }
is_installed() {
    case $1 in
        postgres) [ -n "$PG_BIN" ] && [ -x "$PG_BIN/postgres" ] ;;
        mariadb) command -v mariadbd >/dev/null && command -v mariadb-install-db >/dev/null ;;
        redis) command -v redis-server >/dev/null ;;
        etcd) command -v etcd >/dev/null ;;
    esac
}

start_postgres() {
    d=$(data_dir postgres postgres) || return 1
    if [ ! -f "$d/db/PG_VERSION" ]; then
        as postgres "$PG_BIN/initdb" -D "$d/db" -U dev -A trust -E UTF8 --locale=C.UTF-8 --no-sync --no-instructions \
            >"$DIR/postgres-init.log" 2>&1 || fail "postgres: initdb failed, see $DIR/postgres-init.log" || return 1
    fi
    as postgres "$PG_BIN/pg_ctl" -D "$d/db" -l "$d/log" -W -o "-p $PG_PORT -c listen_addresses=127.0.0.1 \
        -c unix_socket_directories=$d -c fsync=off -c synchronous_commit=off -c full_page_writes=off \
        -c shared_buffers=64MB -c max_connections=200" start >/dev/null
}
ready_postgres() { "$PG_BIN/pg_isready" -q -h 127.0.0.1 -p "$PG_PORT"; }
stop_postgres() { as postgres "$PG_BIN/pg_ctl" -D "$(data_dir postgres postgres)/db" -m fast -w stop >/dev/null 2>&1; }

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

start_redis() {
    d=$(data_dir redis "$(id -un)") || return 1
    detach "$DIR/redis.log" redis-server --port "$REDIS_PORT" --bind 127.0.0.1 --dir "$d" --save '' --appendonly no
}
ready_redis() { [ "$(redis-cli -h 127.0.0.1 -p "$REDIS_PORT" ping 2>/dev/null)" = PONG ]; }
stop_redis() { redis-cli -h 127.0.0.1 -p "$REDIS_PORT" shutdown nosave >/dev/null 2>&1; }

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

# ---- Docker, where a package can not be had --------------------------------------------------------------------------

container() { say "mosaic-engine-$1"; }
in_docker() { [ -n "$(docker ps -q --filter "name=^$(container "$1")\$" 2>/dev/null)" ]; }
start_in_docker() {
    name=$(container "$1")
    docker rm -f "$name" >/dev/null 2>&1
    case $1 in
        postgres) docker run -d --name "$name" -p "127.0.0.1:$PG_PORT:5432" -e POSTGRES_USER=dev \
            -e POSTGRES_PASSWORD=dev postgres:15-alpine -c fsync=off -c max_connections=200 ;;
        mariadb) docker run -d --name "$name" -p "127.0.0.1:$MY_PORT:3306" -e MARIADB_ROOT_PASSWORD=dev \
            -e MARIADB_USER=dev -e MARIADB_PASSWORD=dev mariadb:10.11 --max-connections=200 ;;
        redis) docker run -d --name "$name" -p "127.0.0.1:$REDIS_PORT:6379" redis:7-alpine --save '' ;;
        etcd) docker run -d --name "$name" -p "127.0.0.1:$ETCD_PORT:2379" quay.io/coreos/etcd:v3.5.17 \
            etcd --listen-client-urls http://0.0.0.0:2379 --advertise-client-urls "http://127.0.0.1:$ETCD_PORT" ;;
    esac >/dev/null
}
ready_in_docker() {
    case $1 in
        postgres) docker exec "$(container postgres)" pg_isready -q -h 127.0.0.1 -U dev ;;
        mariadb) docker exec "$(container mariadb)" mariadb -h127.0.0.1 -uroot -pdev -e "grant all on *.* to 'dev'@'%'" ;;
        redis) docker exec "$(container redis)" redis-cli ping ;;
        etcd) docker exec "$(container etcd)" etcdctl endpoint health ;;
    esac >/dev/null 2>&1
}

# ---- commands --------------------------------------------------------------------------------------------------------

# Installs packages without letting their services start.
install_packages() {
    command -v apt-get >/dev/null || return 1
    if is_root; then sudo=; elif sudo -n true 2>/dev/null; then sudo=sudo; else return 1; fi
    policy=/usr/sbin/policy-rc.d
    say "installing $*"
    [ ! -e $policy ] || $sudo mv $policy $policy.mosaic
    printf '#!/bin/sh\nexit 101\n' | $sudo tee $policy >/dev/null && $sudo chmod 0755 $policy
    $sudo apt-get update -qq
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
    code=$?
    $sudo rm -f $policy
    [ ! -e $policy.mosaic ] || $sudo mv $policy.mosaic $policy
    return $code
}

is_ready() { if is_installed "$1"; then "ready_$1"; else in_docker "$1" && ready_in_docker "$1"; fi; }

up() {
    if is_ready "$1"; then say "$1: already up"; return; fi
    mkdir -p "$DIR" && { ! is_root || chmod 0755 "$DIR"; }
    if is_installed "$1" || install_packages "$(package_of "$1")"; then
        PG_BIN=$(postgres_bin)
        "start_$1"
    elif docker info >/dev/null 2>&1; then
        start_in_docker "$1"
    else
        fail "$1: not installed; run: apt-get install --no-install-recommends $(package_of "$1"), or start Docker"
    fi || { fail "$1: did not start, see $DIR"; return; }
    left=$((WAIT * 5))
    until is_ready "$1"; do
        left=$((left - 1))
        [ $left -gt 0 ] || { fail "$1: not ready after $WAIT s, see $DIR"; return; }
        sleep 0.2
    done
    say "$1: up"
}

down() {
    if ! is_ready "$1"; then say "$1: not running"; return; fi
    if is_installed "$1"; then "stop_$1"; else docker rm -f "$(container "$1")" >/dev/null; fi
    left=$((WAIT * 5))
    while is_ready "$1"; do
        left=$((left - 1))
        [ $left -gt 0 ] || { fail "$1: still running"; return; }
        sleep 0.2
    done
    say "$1: down"
}

status() { if is_ready "$1"; then say "$1: up"; else say "$1: down"; return 1; fi; }

url() {
    case $1 in
        postgres) say "export MOSAIC_TEST_POSTGRES=postgres://dev:dev@127.0.0.1:$PG_PORT/postgres" ;;
        mariadb) say "export MOSAIC_TEST_MYSQL=mysql://dev:dev@127.0.0.1:$MY_PORT/mosaic_test" ;;
        redis) say "export MOSAIC_TEST_REDIS=redis://127.0.0.1:$REDIS_PORT" ;;
        etcd) say "export MOSAIC_TEST_ETCD=etcd://127.0.0.1:$ETCD_PORT" ;;
    esac
}

command=${1:-help}
[ $# = 0 ] || shift
[ $# != 0 ] || set -- postgres mariadb redis etcd
for engine in "$@"; do
    case $engine in postgres | mariadb | redis | etcd) ;; *) fail "unknown engine: $engine"; exit 2 ;; esac
done
case $command in env) command=url ;; up | down | status) ;; *) sed -n '2,16s/^# \{0,1\}//p' "$0"; exit 2 ;; esac
code=0
for engine in "$@"; do "$command" "$engine" || code=1; done
exit $code
