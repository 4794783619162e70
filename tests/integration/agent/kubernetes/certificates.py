"""Certificates of the tests' own, made by the machine's openssl."""

import subprocess
from pathlib import Path

NODE = "node-1.example.org"
"""The name that the kubelet's certificate is for."""


class Authority:
    """A certificate authority below `folder`, and what it has signed."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir()
        self._folder = folder
        self.certificate = folder / "ca.pem"
        self._key = folder / "ca.key"
        _openssl(
            *("req", "-x509", *_new_key(self._key), "-subj", f"/CN={name}", "-days", "2"),
            *("-addext", "basicConstraints=critical,CA:TRUE", "-out", self.certificate),
        )

    def sign(self, name: str, *, usage: str = "serverAuth") -> tuple[Path, Path]:
        """Certificate and key for a host of this name."""
        kinds = ("csr", "key", "pem", "ext")
        request, key, made, extensions = (self._folder / f"{name}-{usage}.{kind}" for kind in kinds)
        extensions.write_text(f"subjectAltName=DNS:{name}\nextendedKeyUsage={usage}\n")
        _openssl("req", *_new_key(key), "-subj", f"/CN={name}", "-out", request)
        _openssl(
            *("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key),
            *("-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", made),
        )
        return made, key


def _new_key(path: Path) -> list[str | Path]:
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    return [*kind, "-keyout", path]


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=30)
