#!/bin/sh
# The engines that tests use, on private ports with private data.
#
#   deploy/local/engines.sh up|down|status|env [postgres mariadb redis etcd rabbitmq nats kafka s3]
#   eval "$(deploy/local/engines.sh env)"      # MOSAIC_TEST_POSTGRES=..., MOSAIC_TEST_MYSQL=..., and so on
#
# Uses packages of Debian and PyPI; where one is missing it installs it (as root, or with sudo that asks no password), else
# runs the engine in Docker. Nothing is registered as a system service, no data outlive a crash (no fsync), all listen on
# 127.0.0.1 only. `up` twice is as good as once.
#
#   MOSAIC_ENGINES_DIR     data and logs    ~/.cache/mosaic/engines; for root /var/tmp/mosaic-engines, which the
#                          service users that root starts engines as can reach
#   MOSAIC_POSTGRES_PORT   55432       MOSAIC_MARIADB_PORT   53306       MOSAIC_REDIS_PORT   56379
#   MOSAIC_ETCD_PORT       52379; its peers' port is the next
#   MOSAIC_RABBITMQ_PORT   25681 and the next two       MOSAIC_NATS_PORT  24222       MOSAIC_KAFKA_PORT  29092
#   MOSAIC_S3_PORT         29333 and the next three, gRPC 10000 above
#   MOSAIC_ENGINES_WAIT    seconds until an engine must be ready         60
set -u
export LC_ALL=C.UTF-8

is_root() { [ "$(id -u)" = 0 ]; }
if is_root; then DIR=/var/tmp/mosaic-engines; else DIR=${XDG_CACHE_HOME:-$HOME/.cache}/mosaic/engines; fi
DIR=${MOSAIC_ENGINES_DIR:-$DIR}
WAIT=${MOSAIC_ENGINES_WAIT:-60}
PYPI=$DIR/pypi

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

# ---- what each engine is: install, is_installed, start, ready, stop; the same in Docker; url -------------------------

ENGINES="postgres mariadb redis etcd rabbitmq nats kafka s3"
here=$(dirname "$0")
for engine in $ENGINES; do . "$here/engines/$engine.sh"; done

container() { say "mosaic-engine-$1"; }
in_docker() { [ -n "$(docker ps -q --filter "name=^$(container "$1")\$" 2>/dev/null)" ]; }
start_in_docker() {
    docker rm -f "$(container "$1")" >/dev/null 2>&1
    "docker_$1" "$(container "$1")" >/dev/null
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

# Installs a package with a program in it, in an environment of its own.
install_from_pypi() {
    say "installing $1"
    [ -x "$PYPI/bin/pip" ] || python3 -m venv "$PYPI" >/dev/null 2>&1 \
        || { install_packages python3-venv && python3 -m venv "$PYPI" >/dev/null; } || return 1
    "$PYPI/bin/pip" install -q --disable-pip-version-check "$1"
}

is_installed() { "is_installed_$1"; }
is_ready() {
    if is_installed "$1"; then "ready_$1"; else in_docker "$1" && "docker_ready_$1" "$(container "$1")" >/dev/null 2>&1; fi
}

up() {
    if is_ready "$1"; then say "$1: already up"; return; fi
    mkdir -p "$DIR" && { ! is_root || chmod 0755 "$DIR"; }
    if is_installed "$1" || "install_$1"; then
        "start_$1"
    elif docker info >/dev/null 2>&1; then
        start_in_docker "$1"
    else
        fail "$1: could not be installed (see deploy/local/engines/$1.sh), and Docker does not run"
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

url() { "url_$1"; }

command=${1:-help}
[ $# = 0 ] || shift
# Names, split where the blanks are.
# shellcheck disable=SC2086
[ $# != 0 ] || set -- $ENGINES
for engine in "$@"; do
    case " $ENGINES " in *" $engine "*) ;; *) fail "unknown engine: $engine"; exit 2 ;; esac
done
case $command in env) command=url ;; up | down | status) ;; *) sed -n '2,18s/^# \{0,1\}//p' "$0"; exit 2 ;; esac
code=0
for engine in "$@"; do "$command" "$engine" || code=1; done
exit $code
