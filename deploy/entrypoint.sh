#!/bin/sh
# Give the container what was compiled when the image was built: the work folder is a volume, and
# numba must be able to write to its cache. Several containers may start at once in one volume.
set -eu
for part in numba reference_library; do
    if [ -d "/opt/seed/$part" ] && [ ! -e "$DRP_WORK/$part" ]; then
        stage=$(mktemp -d "$DRP_WORK/.$part.XXXXXX")
        cp -R "/opt/seed/$part" "$stage/"
        mv -T "$stage/$part" "$DRP_WORK/$part" 2>/dev/null || true
        rm -rf "$stage"
    fi
done
exec "$@"
