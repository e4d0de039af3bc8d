#!/bin/sh
# Verifies the signature of an evidence bundle with nothing of ours: a shell, coreutils and openssl.
# Usage: independent.sh BUNDLE SCRATCH
set -eu
bundle=$1
scratch=$2
field() {
    sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" "$bundle/attestation.intoto.jsonl"
}
field payload | tr -d '\n' | base64 -d >"$scratch/payload"
field sig | tr -d '\n' | base64 -d >"$scratch/sig"
type=$(field payloadType)
# DSSE's pre-authentication encoding.
printf 'DSSEv1 %d %s %d ' "${#type}" "$type" "$(wc -c <"$scratch/payload")" >"$scratch/pae"
cat "$scratch/payload" >>"$scratch/pae"
openssl pkeyutl -verify -pubin -inkey "$bundle/key.pem" -rawin -in "$scratch/pae" -sigfile "$scratch/sig"
# The manifest is a subject of what is signed, and lists the digest of every other file.
manifest=$(sha256sum <"$bundle/manifest.json" | cut -d' ' -f1)
grep -q "\"digest\":{\"sha256\":\"$manifest\"},\"name\":\"manifest.json\"" "$scratch/payload"
tr ',{}' '\n' <"$bundle/manifest.json" |
    sed -n 's/^"\(.*\)":"sha256:\(.*\)"$/\2  \1/p' >"$scratch/sums"
test -s "$scratch/sums"
cd "$bundle"
sha256sum --quiet --check "$scratch/sums"
