#!/bin/sh
# Make a key at the first start, then run the service that is asked for.
set -eu
joule key show >/dev/null 2>&1 || joule key new --passphrase-file "$PASSPHRASE_FILE"
exec joule "$@" --passphrase-file "$PASSPHRASE_FILE"
