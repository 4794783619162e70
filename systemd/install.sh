#!/bin/sh
# Installs or removes one nodemeter service: install.sh [--remove] agent|aggregator
#
# Environment: DESTDIR   stage the files below this folder, to build a package from: nothing runs
#                        from there, no accounts are made and nothing is started
#              PYTHON    the Python to run with (default /usr/bin/python3); the services' accounts
#                        must be able to reach it
#
# The program gets a virtual environment of its own in /opt/nodemeter. Running it again upgrades;
# a configuration that is there is never touched. Removing keeps configuration and state.
set -eu
umask 022

remove=no
if [ "${1-}" = --remove ]; then
    remove=yes
    shift
fi
part=${1-}
case $part in
agent) account=nodemeter-agent extra='[enroll]' commands=nodemeter-agent config_mode=0644 ;;
aggregator) account=nodemeter extra='[aggregator]' commands='nodemeter-aggregator nodemeter' config_mode=0640 ;;
*)
    echo "usage: install.sh [--remove] agent|aggregator" >&2
    exit 2
    ;;
esac

root=${DESTDIR-}
here=$(cd "$(dirname "$0")" && pwd)
checkout=$(dirname "$here")
home=/opt/nodemeter/$part
unit=nodemeter-$part.service
units=$root/usr/local/lib/systemd/system
sysusers=$root/usr/local/lib/sysusers.d/nodemeter-$part.conf
tmpfiles=$root/usr/local/lib/tmpfiles.d/nodemeter-$part.conf
config=$root/etc/nodemeter/$part.toml

if [ -z "$root" ] && [ "$(id -u)" != 0 ]; then
    if [ "$remove" = yes ]; then
        echo "uninstalling needs root: sudo make uninstall-$part" >&2
    else
        echo "installing needs root: sudo make install-$part" >&2
        echo "(DESTDIR=folder only stages the files for a package; nothing runs from there)" >&2
    fi
    exit 1
fi

# systemd is asked only where it runs; containers and image builds have the files alone.
systemd_runs() {
    [ -z "$root" ] && [ -d /run/systemd/system ]
}

has() {
    command -v "$1" >/dev/null 2>&1
}

# The environment is built beside the old one and takes its place as a whole. Its scripts name
# the place that they will have.
build() {
    python=${PYTHON:-/usr/bin/python3}
    fresh=$root$home.new
    copy=$(mktemp -d)
    trap 'rm -rf "$copy" "$fresh"' EXIT
    mkdir -p "$(dirname "$fresh")"
    echo "Making a virtual environment for $root$home ..."
    sh "$checkout/.ci/venv" "$python" "$fresh"
    for name in agent aggregator proto pyproject.toml README.md LICENSE; do
        cp -R "$checkout/$name" "$copy/"
    done
    echo "Installing nodemeter and the packages that it needs (up to a minute) ..."
    "$fresh/bin/python" -m pip install -qq -c "$checkout/requirements.lock" \
        --no-build-isolation --no-compile "$copy$extra"
    echo "Compiling ..."
    "$fresh/bin/python" -m compileall -qq -f -s "$fresh" -p "$home" "$fresh/lib"
    grep -rlIF "$part.new" "$fresh/bin" "$fresh/pyvenv.cfg" | while IFS= read -r file; do
        sed -i "s|$fresh|$home|g; s|($part\.new)|($part)|g" "$file"
    done
    if [ -d "$root$home/timescaledb" ]; then
        mv "$root$home/timescaledb" "$fresh/timescaledb"
    fi
    rm -rf "$root$home"
    mv "$fresh" "$root$home"
}

place() { # MODE SOURCE TARGET
    mkdir -p "$(dirname "$3")"
    install -m "$1" "$2" "$3"
}

link_commands() {
    mkdir -p "$root/usr/local/bin"
    for command in $commands; do
        ln -sfn "$home/bin/$command" "$root/usr/local/bin/$command"
    done
}

make_account() {
    if has systemd-sysusers; then
        systemd-sysusers "$sysusers"
    elif ! getent passwd "$account" >/dev/null; then
        useradd --system --user-group --no-create-home --home-dir "/var/lib/$account" \
            --shell /usr/sbin/nologin "$account"
    fi
}

make_folders() {
    if has systemd-tmpfiles; then
        systemd-tmpfiles --create "$tmpfiles"
        return
    fi
    install -d -m 0700 -o "$account" -g "$account" "/var/lib/$account"
    if [ "$part" = agent ]; then
        install -d -m 0755 /run/nodemeter
        install -d -m 1777 /run/nodemeter/jobs.d
    fi
}

install_part() {
    build
    place 0644 "$here/$unit" "$units/$unit"
    place 0644 "$here/sysusers-$part.conf" "$sysusers"
    place 0644 "$here/tmpfiles-$part.conf" "$tmpfiles"
    link_commands
    if [ -e "$config" ]; then
        echo "kept $config"
    else
        place "$config_mode" "$here/$part.toml" "$config"
    fi
    place 0644 "$here/$part.toml" "$root/usr/local/share/doc/nodemeter/$part.toml"
    if [ -n "$root" ]; then
        echo "staged below $root, for a package: it runs only from $home."
        return
    fi
    make_account
    make_folders
    if [ "$part" = aggregator ]; then
        chgrp "$account" "$config"
        if grep -Eq '^[[:space:]]*url[[:space:]]*=[[:space:]]*"postgres' "$config"; then
            echo "the database is the one that $config names"
        else
            echo "Looking for a TimescaleDB, or unpacking one ..."
            "$home/bin/python" -m aggregator.store.embedded "$home/timescaledb" ||
                echo "set [database] url in $config before you start the service" >&2
        fi
    fi
    if systemd_runs; then
        systemctl daemon-reload
        systemctl try-restart "$unit"
    fi
    echo "installed. Edit $config, then: systemctl enable --now nodemeter-$part"
}

remove_part() {
    if systemd_runs; then
        systemctl disable --now "$unit" 2>/dev/null || true
    fi
    rm -f "$units/$unit" "$sysusers" "$tmpfiles" "$root/usr/local/share/doc/nodemeter/$part.toml"
    for command in $commands; do
        if [ "$(readlink "$root/usr/local/bin/$command")" = "$home/bin/$command" ]; then
            rm "$root/usr/local/bin/$command"
        fi
    done
    rm -rf "$root$home" "$root$home.new"
    rmdir "$root/opt/nodemeter" "$root/usr/local/share/doc/nodemeter" 2>/dev/null || true
    if systemd_runs; then
        systemctl daemon-reload
    fi
    echo "removed. $config and the data in /var/lib/$account are kept."
}

if [ "$remove" = yes ]; then
    remove_part
else
    install_part
fi
