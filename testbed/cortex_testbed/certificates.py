"""A certificate authority of one cluster; shields the rest from openssl."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cortex_testbed.errors import BedError

DAYS: Final = "30"
_NEW_KEY: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Pair:
    """Files in PEM; the key is readable by its owner only."""

    certificate: Path
    key: Path


class Authority:
    """Makes `ca` and every other pair in a folder."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.ca = self.pair("ca")
        subject = ("-subj", "/CN=cortex-test-bed", "-days", DAYS)
        if not self.ca.certificate.exists():
            _openssl("req", "-x509", *_NEW_KEY, *subject, "-keyout", self.ca.key, "-out", self.ca.certificate)

    def issue(self, name: str, subject: str, sans: Sequence[str] = ()) -> Pair:
        """`subject` as /O=GROUP/CN=USER, `sans` as DNS:NAME or IP:ADDRESS. Good for servers and clients."""
        pair = self.pair(name)
        lines = ["extendedKeyUsage=serverAuth,clientAuth", *([f"subjectAltName={','.join(sans)}"] if sans else [])]
        with tempfile.TemporaryDirectory(dir=self._directory) as scratch:
            extensions, request = Path(scratch, "extensions"), Path(scratch, "request")
            extensions.write_text("\n".join(lines) + "\n")
            _openssl("req", "-new", *_NEW_KEY, "-subj", subject, "-keyout", pair.key, "-out", request)
            signer = ("-CA", self.ca.certificate, "-CAkey", self.ca.key, "-CAserial", Path(scratch, "serial"))
            out = ("-CAcreateserial", "-days", DAYS, "-extfile", extensions, "-out", pair.certificate)
            _openssl("x509", "-req", "-in", request, *signer, *out)
        return pair

    def signing_key(self, name: str) -> Pair:
        """A private key and, as its `certificate`, the public key alone: what signs service account tokens."""
        pair = self.pair(name)
        _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", pair.key)
        _openssl("ec", "-in", pair.key, "-pubout", "-out", pair.certificate)
        return pair

    def pair(self, name: str) -> Pair:
        """Where a pair is, made or not."""
        return Pair(self._directory / f"{name}.crt", self._directory / f"{name}.key")


def _openssl(*words: str | Path) -> None:
    try:
        done = subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True, check=False)
    except OSError as error:
        raise BedError("openssl was not found and is needed for the cluster's certificates: install openssl") from error
    if done.returncode:
        raise BedError(f"openssl {words[0]} failed: {done.stderr.strip()}")
