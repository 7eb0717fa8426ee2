#!/usr/bin/env bash
# kcat (librdkafka of Debian). It administers nothing; topics are created by others.
set -euo pipefail
base=(-b "$KAFKA" -q)
case $1 in
produce)
    acks=(-X "acks=$4")
    [ "$4" != idempotent ] || acks=(-X enable.idempotence=true)
    exec kcat "${base[@]}" -P -t "$2" -p 0 -K= -z "$3" "${acks[@]}" -X linger.ms=5
    ;;
read)
    from=$3
    [ "${from#@}" = "$from" ] || from="s@${from#@}"
    exec kcat "${base[@]}" -C -t "$2" -p 0 -o "$from" -c "$4" -f '%o\t%k\t%s\n'
    ;;
group)
    exec kcat "${base[@]}" -G "$3" -c "$4" -X auto.offset.reset=earliest -f '%o\t%k\t%s\n' "$2"
    ;;
member)
    kcat -b "$KAFKA" -u -G "$3" -X auto.offset.reset=earliest -X auto.commit.interval.ms=100 -X session.timeout.ms=6000 \
        -X heartbeat.interval.ms=300 -f 'got %p %s\n' "$2" 2> >(sed -u -n \
        -e 's/.* rebalanced .* revoked: .*/has /p' -e 's/.* rebalanced .* assigned: \(.*\)/has \1/; T; s/[^ ]* \[\([0-9]*\)\]/\1/g; s/, /,/g; p') &
    cat >/dev/null
    kill $!
    wait $! || true
    ;;
*)
    echo "kcat cannot $1" >&2
    exit 64
    ;;
esac
