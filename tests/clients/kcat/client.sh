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
*)
    echo "kcat cannot $1" >&2
    exit 64
    ;;
esac
