# For the scripts beside this file, which source it: what Debian's packages take.

say() { echo "$*" >&2; }
die() { say "$*"; exit 1; }

# Installs these packages. With none, it does nothing.
install_packages() {
    [ $# -gt 0 ] || return 0
    command -v apt-get >/dev/null || die "missing: $*; install them (ZooKeeper can also be unpacked, and named by ZOOKEEPER_HOME)"
    say "installing $*"
    as_root "$*" apt-get -o DPkg::Lock::Timeout=300 update -q >&2
    as_root "$*" apt-get -o DPkg::Lock::Timeout=300 install -y -q --no-install-recommends "$@" >&2
}

as_root() {
    local wanted=$1
    shift
    if [ "$(id -u)" = 0 ]; then env DEBIAN_FRONTEND=noninteractive "$@"
    elif command -v sudo >/dev/null; then sudo env DEBIAN_FRONTEND=noninteractive "$@"
    else die "these packages are missing, and installing them needs root: $wanted"; fi
}
