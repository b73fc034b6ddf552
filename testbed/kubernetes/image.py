#!/usr/bin/env python3
"""Makes a container image of one layer without a builder or a registry: image.py NAME OUT.tar PATH=FILE... -- ENTRYPOINT...

PATH=FILE puts FILE at /PATH in the image, executable. `ctr images import` and `docker load` take what comes out.
"""
import hashlib
import io
import json
import sys
import tarfile


def add(archive, name, data, mode):
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    archive.addfile(entry, io.BytesIO(data))


def main():
    name, out, *rest = sys.argv[1:]
    cut = rest.index("--") if "--" in rest else len(rest)
    files, entrypoint = rest[:cut], rest[cut + 1 :]
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        for folder in ("tmp", "etc"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            archive.addfile(entry)
        add(archive, "etc/passwd", b"root:x:0:0::/:/none\nliverank:x:65532:65532::/:/none\n", 0o644)
        for item in files:
            path, _, file = item.partition("=")
            with open(file, "rb") as source:
                add(archive, path.lstrip("/"), source.read(), 0o755)
    layer = layer.getvalue()
    digest = hashlib.sha256(layer).hexdigest()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": entrypoint, "User": "65532:65532"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    config = json.dumps(config, sort_keys=True).encode()
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = [{"Config": config_name, "RepoTags": [name], "Layers": [f"{digest}/layer.tar"]}]
    with tarfile.open(out, "w") as archive:
        add(archive, config_name, config, 0o644)
        add(archive, f"{digest}/layer.tar", layer, 0o644)
        add(archive, "manifest.json", json.dumps(manifest).encode(), 0o644)


main()
