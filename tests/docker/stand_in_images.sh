#!/bin/sh
# Makes stand-ins for the two base images of docker-compose.yml from Debian's packages, for machines where no image can
# be pulled. The first run takes about a minute; later runs find them and are done.
#
#   eval "$(tests/docker/stand_in_images.sh)" && docker-compose build
#
# Messages go to standard error; standard output is the two variables that docker-compose.yml reads.
# To make them anew: docker image rm mira-queue-stand-in/python:3.11 mira-queue-stand-in/redis:7.0
set -eu

suite=bookworm
python_image=mira-queue-stand-in/python:3.11
redis_image=mira-queue-stand-in/redis:7.0
ca_bundle=/etc/ssl/certs/ca-certificates.crt

say() { echo "stand-in images: $*" >&2; }
fail() { say "$*"; exit 2; }

has_image() { docker image inspect "$1" >/dev/null 2>&1; }

# make IMAGE PACKAGES HOOK...: a minimal Debian with the packages, after each hook, as an image.
make() {
    image=$1 packages=$2
    shift 2
    if has_image "$image"; then
        say "$image is there"
        return
    fi
    command -v mmdebstrap >/dev/null || fail "mmdebstrap not found: apt-get install mmdebstrap"
    say "making $image from Debian $suite: $packages ..."
    # Through a file and not a pipe: a pipe hides that mmdebstrap failed, and imports half a system.
    if ! mmdebstrap --quiet --variant=minbase --include="$packages" "$@" "$suite" "$scratch/root.tar" >"$scratch/log" 2>&1; then
        cat "$scratch/log" >&2
        fail "could not make $image"
    fi
    docker import --message "Debian $suite: $packages" "$scratch/root.tar" "$image" >/dev/null
    rm "$scratch/root.tar"
}

docker version >/dev/null 2>&1 || fail "no Docker Engine answers: start one, or set DOCKER_HOST"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# The host's certificates replace Debian's: behind a proxy with a CA of its own, pip would refuse every download.
set --
[ ! -r "$ca_bundle" ] || set -- --customize-hook="copy-in $ca_bundle $(dirname "$ca_bundle")"
make "$python_image" python3,python3-venv,ca-certificates "$@"
# As in the real images: /data, owned by user 999.
make "$redis_image" redis-server --customize-hook='install -d -o 999 -g 999 -m 1777 "$1/data"'

echo "export PYTHON_IMAGE=$python_image REDIS_IMAGE=$redis_image"
