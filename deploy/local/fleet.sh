#!/bin/sh
# The platform as several processes on this machine, which find each other by etcd and share PostgreSQL and Redis.
#
#   deploy/local/fleet.sh up                 start the engines and every process that is not running
#   deploy/local/fleet.sh down               end all processes as a deployment does (SIGTERM); the engines stay
#   deploy/local/fleet.sh status             process id, ports, readiness and age of each
#   deploy/local/fleet.sh kill NAME          end one as a crash does (SIGKILL)
#   deploy/local/fleet.sh restart NAME       SIGTERM if it runs, then start it and wait until it is ready
#   deploy/local/fleet.sh logs NAME [ARGS]   show the log, or what `tail ARGS` shows of it: logs users-1 -f
#
# NAME is edge, social, identity-1, identity-2, users-1, users-2 or messaging. `up` twice is as good as once. Everything listens
# on 127.0.0.1 only, in development mode. Ports are chosen at the first `up` and kept, as are the secrets.
#
#   FLEET_DIR       configuration, logs, ports    ~/.cache/mosaic/fleet
#   FLEET_PROGRAM   the platform                  debug/platform in CARGO_TARGET_DIR, else in target/
#   FLEET_PORT      where the search for free ports begins     18080
#   FLEET_WAIT      seconds until a process must be ready, or ended     60
set -u
export LC_ALL=C

HERE=$(cd "$(dirname "$0")" && pwd)
DIR=${FLEET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/mosaic/fleet}
PROGRAM=${FLEET_PROGRAM:-${CARGO_TARGET_DIR:-$HERE/../../target}/debug/platform}
FIRST_PORT=${FLEET_PORT:-18080}
WAIT=${FLEET_WAIT:-60}
NAMES="messaging identity-1 identity-2 users-1 users-2 social edge"

say() { printf '%s\n' "$*"; }
fail() { printf '%s\n' "$*" >&2; return 1; }

SOCIAL=interaction,comments,relations,feed,ranking,search,blobs,payments,ledger,rewards

modules_of() {
    case $1 in edge) say edge,homestay,content ;; social) say "$SOCIAL" ;; *) say "${1%-[0-9]}" ;; esac
}

# ---- one process -----------------------------------------------------------------------------------------------------

pid_of() { cat "$DIR/$1.pid" 2>/dev/null; }

# Whether the process of that number is still ours and not somebody who got the number after it.
is_running() {
    pid=$(pid_of "$1") && [ -n "$pid" ] || return 1
    case $(ps -p "$pid" -o stat= -o args= 2>/dev/null) in Z*) return 1 ;; *"$DIR/fleet.toml"*) return 0 ;; *) return 1 ;; esac
}

# Prints one of the ports of a process: http, grpc or admin.
port_of() { sed -n "s/^$2=//p" "$DIR/$1.ports"; }
is_ready() { curl -s -f -m 2 -o /dev/null --noproxy '*' "http://127.0.0.1:$(port_of "$1" admin)/readyz"; }

# Whether nobody listens there: 7 is curl's "connection refused".
is_free() {
    ! grep -qs "=$1\$" "$DIR"/*.ports || return 1
    curl -s -m 1 -o /dev/null --noproxy '*' "http://127.0.0.1:$1/"
    [ $? = 7 ]
}

choose_ports() {
    [ ! -s "$DIR/$1.ports" ] || return 0
    port=$FIRST_PORT
    for use in http grpc admin; do
        until is_free "$port"; do port=$((port + 1)); done
        say "$use=$port" >>"$DIR/$1.ports"
    done
}

start() {
    if is_running "$1"; then say "$1: already running"; return; fi
    choose_ports "$1"
    rm -f "$DIR/$1.pid"
    # In a session of its own, so that Ctrl-C here does not reach it.
    setsid nohup sh -c 'echo $$ >"$1"; shift; exec "$@"' sh "$DIR/$1.pid" \
        "$PROGRAM" --config "$DIR/fleet.toml" --run "$(modules_of "$1")" --data "$DIR/data/$1" \
        --http "127.0.0.1:$(port_of "$1" http)" --grpc "127.0.0.1:$(port_of "$1" grpc)" \
        --admin "127.0.0.1:$(port_of "$1" admin)" >>"$DIR/$1.log" 2>&1 </dev/null &
    wait_written "$DIR/$1.pid"
}

# Makes the database of the fleet unless it is there; what the engine has of its own is used by tests.
make_database() {
    create="CREATE DATABASE mosaic_fleet"
    psql=$(command -v psql || ls -d /usr/lib/postgresql/*/bin/psql 2>/dev/null | sort -V | tail -1)
    if [ -n "$psql" ]; then
        out=$("$psql" -q -X -w "$MOSAIC_TEST_POSTGRES" -c "$create" 2>&1)
    else
        out=$(docker exec mosaic-engine-postgres psql -q -U dev -d postgres -c "$create" 2>&1)
    fi || case $out in *exists*) ;; *) fail "cannot make a database: $out" ;; esac
}

# Waits until the process has said its number, so that nobody takes an old one for it.
wait_written() {
    left=100
    until [ -s "$1" ] || [ $left = 0 ]; do left=$((left - 1)); sleep 0.05; done
}

wait_ready() {
    left=$((WAIT * 5))
    until is_ready "$1"; do
        left=$((left - 1))
        is_running "$1" || { tail -n 5 "$DIR/$1.log" >&2; fail "$1: ended, see $DIR/$1.log"; return; }
        [ $left -gt 0 ] || { fail "$1: not ready after $WAIT s, see $DIR/$1.log"; return; }
        sleep 0.2
    done
    say "$1: ready"
}

# Waits until a process that was told to end has.
wait_gone() {
    left=$((WAIT * 10))
    while is_running "$1"; do
        left=$((left - 1))
        [ $left -gt 0 ] || { fail "$1: still running after $WAIT s"; return; }
        sleep 0.1
    done
    rm -f "$DIR/$1.pid"
}

# ---- what all of them share ------------------------------------------------------------------------------------------

# Prints a new Ed25519 key: the head that PKCS #8 wants and 32 random bytes.
private_key() {
    say "-----BEGIN PRIVATE KEY-----"
    { printf '\060\056\002\001\000\060\005\006\003\053\145\160\004\042\004\040'; head -c 32 /dev/urandom; } | base64
    say "-----END PRIVATE KEY-----"
}

configure() {
    mkdir -p "$DIR/data" && chmod 0700 "$DIR" || return 1
    [ -s "$DIR/private.pem" ] || private_key >"$DIR/private.pem"
    [ -s "$DIR/peer.key" ] || od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$DIR/peer.key"
    # Where the engines are; not exported, as these are variables of tests.
    urls=$("$HERE/engines.sh" env postgres redis etcd | sed 's/^export //') && eval "$urls"
    make_database || return
    cat >"$DIR/fleet.toml.new" <<TOML
mode = "dev"
[rpc]
peer_key = "$(cat "$DIR/peer.key")"
[registry]
url = "$MOSAIC_TEST_ETCD/fleet?ttl=5s"
[database]
url = "${MOSAIC_TEST_POSTGRES%/*}/mosaic_fleet"
max_connections = 24
[cache]
url = "$MOSAIC_TEST_REDIS"
[identity]
private_key = """
$(cat "$DIR/private.pem")
"""
TOML
    mv "$DIR/fleet.toml.new" "$DIR/fleet.toml"
}

# ---- commands --------------------------------------------------------------------------------------------------------

up() {
    command -v curl >/dev/null || fail "curl is missing: install it first" || return
    [ -x "$PROGRAM" ] || fail "there is no $PROGRAM; ./dev fleet up builds it" || return
    "$HERE/engines.sh" up postgres redis etcd || return
    umask 077
    configure || return
    for name in $NAMES; do start "$name"; done
    for name in $NAMES; do wait_ready "$name" || return; done
    banner
}

banner() {
    http=http://127.0.0.1:$(port_of edge http)
    cat <<TEXT

  HTTP   $http  (API to read and try: $http/docs)
  logs   $DIR/*.log

Try:
  curl -s $http/usercenter/v1/user/register -H 'content-type: application/json' -d '{"mobile":"13800138000","password":"correct horse"}'
  TOKEN=\$(curl -s $http/usercenter/v1/user/login -H 'content-type: application/json' -d '{"mobile":"13800138000","password":"correct horse"}' | sed 's/.*"accessToken":"\([^"]*\)".*/\1/')
  curl -s $http/usercenter/v1/user/detail -H 'content-type: application/json' -H "authorization: Bearer \$TOKEN" -d '{}'
  ./dev fleet kill users-1 && ./dev fleet status      # and the profile is read as before
TEXT
}

down() {
    for name in $NAMES; do ! is_running "$name" || kill -TERM "$(pid_of "$name")"; done
    code=0
    for name in $NAMES; do
        if wait_gone "$name"; then say "$name: down"; else code=1; fi
    done
    say "the engines go on: deploy/local/engines.sh down ends them"
    return $code
}

status() {
    printf '%-11s %8s %6s %6s %6s  %-9s %s\n' NAME PID HTTP GRPC ADMIN READY UPTIME
    code=0
    for name in $NAMES; do
        if [ ! -s "$DIR/$name.ports" ] || ! is_running "$name"; then
            printf '%-11s %8s %6s %6s %6s  %s\n' "$name" - - - - down
            code=1
            continue
        fi
        ready=yes
        is_ready "$name" || { ready=no; code=1; }
        http=-
        [ "$name" != edge ] || http=$(port_of edge http)
        pid=$(pid_of "$name")
        printf '%-11s %8s %6s %6s %6s  %-9s %s\n' "$name" "$pid" "$http" "$(port_of "$name" grpc)" \
            "$(port_of "$name" admin)" $ready "$(ps -p "$pid" -o etime= | tr -d ' ')"
    done
    return $code
}

kill_one() {
    is_running "$1" || fail "$1: not running" || return
    kill -KILL "$(pid_of "$1")"
    wait_gone "$1" && say "$1: killed"
}

restart() {
    [ -s "$DIR/fleet.toml" ] || fail "there is no fleet; begin with: up" || return
    if is_running "$1"; then kill -TERM "$(pid_of "$1")"; wait_gone "$1" || return; fi
    umask 077
    start "$1"
    wait_ready "$1"
}

logs() {
    name=$1; shift
    if [ $# = 0 ]; then cat "$DIR/$name.log"; else tail "$@" "$DIR/$name.log"; fi
}

need_name() {
    case " $NAMES " in *" ${1:-none} "*) ;; *) fail "which one? $NAMES"; exit 2 ;; esac
}

command=${1:-help}
[ $# = 0 ] || shift
case $command in
    up | down | status) "$command" ;;
    kill) need_name "$@"; kill_one "$1" ;;
    restart | logs) need_name "$@"; "$command" "$@" ;;
    *) sed -n '2,18s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
